"""Workflows: each step is a topic with a handler, and no topic has two next steps."""

from services.ledger.steps import WORKFLOWS
from services.ledger.topics import QUEUES, TOPICS, HandlerMode
from tasks.handlers import EXTERNAL, HANDLERS, TRANSACTIONAL


def test_each_step_has_a_topic_with_a_queue_and_a_handler_of_its_mode() -> None:
    for workflow in WORKFLOWS.values():
        for step in workflow.steps:
            topic = TOPICS[step]
            assert topic.queue in QUEUES
            assert step in HANDLERS
            of_mode = TRANSACTIONAL if topic.mode is HandlerMode.TRANSACTIONAL else EXTERNAL
            assert step in of_mode, step


def test_a_workflow_has_its_own_name_and_no_step_twice() -> None:
    for name, workflow in WORKFLOWS.items():
        assert name == workflow.name
        assert len(set(workflow.steps)) == len(workflow.steps) > 1


def test_no_topic_has_two_next_steps() -> None:
    following: dict[str, str] = {}
    for workflow in WORKFLOWS.values():
        for step, following_step in zip(workflow.steps, [*workflow.steps[1:], ""], strict=True):
            assert following.setdefault(step, following_step) == following_step, step


def test_only_the_first_step_begins_with_an_event() -> None:
    """A later step that an event began would have no workflow in its payload."""
    from services.providers.registry import PROVIDERS

    begun = {topic for provider in PROVIDERS for _, topic in provider.topics}
    for workflow in WORKFLOWS.values():
        assert not begun & set(workflow.steps[1:])
