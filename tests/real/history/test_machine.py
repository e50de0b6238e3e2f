"""The timeline's state machine, with more histories than the quick tests have time for."""

import pytest
from hypothesis import settings

from tests.telemetron.history.test_timeline_machine import TestTimeline as Quick
from tests.telemetron.history.test_timeline_machine import TimelineMachine

TestManyHistories = TimelineMachine.TestCase
TestManyHistories.settings = settings(Quick.settings, max_examples=150)
pytestmark = pytest.mark.timeout(170)
del Quick
