"""The state machine of tasks, with more lives than the quick tests have time for."""

from hypothesis import settings

from tests.real.nightly import often
from tests.telemetron.answers.test_task_machine import TaskMachine
from tests.telemetron.answers.test_task_machine import TestTasks as Quick

TestManyTasks = TaskMachine.TestCase
TestManyTasks.settings = settings(Quick.settings, max_examples=often(400))
del Quick
