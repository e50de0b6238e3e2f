"""The timeline's state machine, with more histories than the quick tests have time for."""

from hypothesis import settings

from tests.real.nightly import often
from tests.telemetron.history.test_timeline_machine import TestTimeline as Quick
from tests.telemetron.history.test_timeline_machine import TimelineMachine

TestManyHistories = TimelineMachine.TestCase
TestManyHistories.settings = settings(Quick.settings, max_examples=often(300))
del Quick
