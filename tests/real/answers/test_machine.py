"""The state machine of tasks, with more lives than the quick tests have time for."""

import pytest
from hypothesis import settings

from tests.telemetron.answers.test_task_machine import TaskMachine
from tests.telemetron.answers.test_task_machine import TestTasks as Quick

TestManyTasks = TaskMachine.TestCase
TestManyTasks.settings = settings(Quick.settings, max_examples=200)
pytestmark = pytest.mark.timeout(360)
del Quick
