"""Programs that run without dv3: StableHLO and SavedModels."""
