"""Steps of a check that need no model, for the tests; done in a process that imports them by name."""

import os
import signal
import time

from rlreason.checking.step import Found, Step
from rlreason.errors import NothingToLearn


def finds(place):
    yield Found({"tokens_per_second": 1234.5}, planned=2**30, held=2**29, gap=0.01)


def raises(place):
    yield Found()
    print("said before the end")
    raise ValueError("this went\nwrong")


def dies(place):
    yield Found()
    os.kill(os.getpid(), signal.SIGKILL)


def learns_nothing(place):
    raise NothingToLearn("all is wrong")
    yield


def hangs(place):
    time.sleep(600)
    yield Found()


GOOD = Step("good", finds)
BROKEN = Step("broken", raises, parts=("one", "two", "three"))
DYING = Step("dying", dies, parts=("one", "two"))
POOR = Step("poor", learns_nothing)
HANGING = Step("hanging", hangs)
READER = Step("reader", finds, after="broken")
LAST = Step("last", finds)
SEVERAL = Step("several", finds, gpus=99)
ALL = [GOOD, BROKEN, READER, POOR, DYING, HANGING, SEVERAL, LAST]
