"""What the tests of engines share: one engine of the tiny network."""

from fixtures.tiny_engines import engine as engine
from fixtures.tiny_engines import tiny_engine as tiny_engine
from fixtures.tiny_engines import tiny_request as tiny_request
