"""What the model's tests share: one thread, and one tiny checkpoint."""

from fixtures.one_thread import one_thread as one_thread
from fixtures.tiny_networks import plain_network as plain_network
from fixtures.tiny_networks import tiny_checkpoint as tiny_checkpoint
from fixtures.tiny_networks import tiny_fast as tiny_fast
from fixtures.tiny_networks import tiny_network as tiny_network
