"""What conformance tests of CUDA programs run on."""

from functools import partial

import pytest
from support.accelerators import ACCELERATORS, accelerator


@pytest.fixture(scope="module", params=ACCELERATORS)
def new(request):
    """Give what makes a device of one kind; it may be given the most blocks of a grid."""
    return partial(accelerator, request.param)
