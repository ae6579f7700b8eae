"""Strategies, and moving batches to and from replicas."""

import os

import numpy as np
import tensorflow as tf
from absl import logging

from dv3 import errors
from dv3.nets import xla
from dv3.training import cluster

NAMES = ('single', 'mirrored', 'multiworker', 'tpu')
"""What `make_strategy` knows."""
_NVIDIA_DRIVER = '/proc/driver/nvidia/version'


def make_strategy(name: str = 'single', replicas: int = 0):
  """Returns a `tf.distribute` strategy.

  Args:
    name: 'single' (one device), 'mirrored' (all GPUs of this machine, or
      logical CPU devices where there is no GPU), 'multiworker' (all GPUs, or
      the CPU, of each process that TF_CONFIG names; waits for all of them) or
      'tpu' (the TPU named by the environment's TPU_NAME, else this machine's).
      The first three are one device's strategy where that is all there is.
    replicas: of 'mirrored', the number of devices to use; 0 means all GPUs, or
      two logical devices of the CPU.

  Raises:
    UserError: for another name, more replicas than devices, no TPU, or a
      TF_CONFIG that is missing or wrong.
  """
  if name == 'single':
    return tf.distribute.get_strategy()
  if name == 'multiworker':
    _, workers = cluster.place()
    if workers == 1 and len(tf.config.list_physical_devices('GPU')) <= 1:
      return tf.distribute.get_strategy()
    kind = tf.distribute.experimental.CommunicationImplementation
    return tf.distribute.MultiWorkerMirroredStrategy(
        communication_options=tf.distribute.experimental.CommunicationOptions(
            implementation=kind.NCCL if xla.has_gpu() else kind.RING))
  if name == 'tpu':
    return _tpu()
  if name != 'mirrored':
    raise errors.UserError(
        f'train.distribution is {name!r}; choose {", ".join(NAMES)}')
  kind = 'GPU' if xla.has_gpu() else 'CPU'
  if kind == 'CPU' and replicas != 1:
    split_cpu(replicas or 2)
  devices = tf.config.list_logical_devices(kind)
  if replicas > len(devices):
    raise errors.UserError(
        f'train.replicas is {replicas} but there are {len(devices)} {kind} '
        'devices; lower it')
  devices = devices[:replicas] if replicas else devices
  if len(devices) == 1 or replicas == 1:  # Nothing to agree on.
    return tf.distribute.get_strategy()
  return tf.distribute.MirroredStrategy([device.name for device in devices])


def _tpu():
  """Connects to a TPU, which forgets what it held."""
  try:
    resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
        tpu=os.environ.get('TPU_NAME', 'local'))
    tf.config.experimental_connect_to_cluster(resolver)
    tf.tpu.experimental.initialize_tpu_system(resolver)
  except (ValueError, RuntimeError, tf.errors.OpError) as error:
    raise errors.UserError(
        f'no TPU was found ({" ".join(str(error).split())[:200]}); on a TPU VM '
        'set TPU_NAME=local, elsewhere its name, or choose another '
        'train.distribution') from error
  return tf.distribute.TPUStrategy(resolver)


def split_cpu(count: int) -> None:
  """Makes `count` logical devices of the CPU, before TensorFlow starts.

  Raises:
    UserError: if TensorFlow has started with fewer devices.
  """
  cpu, = tf.config.list_physical_devices('CPU')
  options = tf.config.LogicalDeviceConfiguration()
  try:
    tf.config.set_logical_device_configuration(cpu, [options] * count)
  except RuntimeError as error:
    if len(tf.config.list_logical_devices('CPU')) < count:
      raise errors.UserError(
          f'{count} replicas on the CPU must be asked for before TensorFlow '
          'starts; call dv3.training.distribution.split_cpu first') from error


def on_cpu(strategy) -> bool:
  """Whether the replicas of a strategy are CPUs."""
  return not xla.has_gpu() and not isinstance(
      strategy, tf.distribute.TPUStrategy)


def describe(strategy) -> str:
  """Returns the devices of a strategy for people, for example '2 x CPU'."""
  count = strategy.num_replicas_in_sync
  kind = 'CPU' if on_cpu(strategy) else 'GPU' if xla.has_gpu() else 'TPU'
  return f'{count} x {kind}' if count > 1 else kind


def warn_of_unseen_gpu(strategy) -> None:
  """Warns where there is an NVIDIA driver and the CPU trains.

  Unless `CUDA_VISIBLE_DEVICES` hides its GPUs, which someone chose.
  """
  if (on_cpu(strategy) and os.path.exists(_NVIDIA_DRIVER)
      and 'CUDA_VISIBLE_DEVICES' not in os.environ):
    logging.warning(
        'this machine has an NVIDIA driver, but TensorFlow finds no GPU and '
        'trains on the CPU: %s, or set CUDA_VISIBLE_DEVICES= if that is meant',
        errors.pip_install('tensorflow[and-cuda]'))


def check_divides(strategy, size: int) -> None:
  """Checks that this process's replicas divide its part of a batch.

  Raises:
    UserError: if they do not.
  """
  if strategy.num_replicas_in_sync == 1:
    return
  replicas = len(strategy.extended.worker_devices)
  if size % replicas:
    raise errors.UserError(
        f'{size} sequences of train.batch_size do not divide among {replicas} '
        f'replicas; choose a multiple of {replicas}, or lower train.replicas')


def scatter(strategy, batch):
  """Splits {name: [B, ...]} along the batch into one part a local replica.

  Raises:
    UserError: if the replicas do not divide the batch.
  """
  if strategy.num_replicas_in_sync == 1:
    return {name: tf.convert_to_tensor(x) for name, x in batch.items()}
  # Other workers have batches of their own.
  replicas = len(strategy.extended.worker_devices)
  size = len(next(iter(batch.values())))
  check_divides(strategy, size)
  part = size // replicas
  def take(context):
    start = context.replica_id_in_sync_group % replicas * part
    return {
        name: tf.convert_to_tensor(x[start: start + part])
        for name, x in batch.items()}
  return strategy.experimental_distribute_values_from_function(take)


def gather(strategy, nest):
  """Joins the replicas' parts of a nest [b, ...] to NumPy arrays [B, ...]."""
  def join(value):
    parts = strategy.experimental_local_results(value)
    parts = [np.asarray(x) for x in parts]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
  return tf.nest.map_structure(join, nest)


def first(strategy, nest):
  """Returns the first replica's copy of values equal on all, as floats."""
  return tf.nest.map_structure(
      lambda x: float(strategy.experimental_local_results(x)[0]), nest)
