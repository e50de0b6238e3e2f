"""An agent without a framework: `TELEMETRON_URL=http://127.0.0.1:8080 python plain_agent.py`.

Needs: pip install telemetron-agent
"""

import time

from telemetron_agent import Agent, current

agent = Agent("plain", models=["stand-in"], max_parallel=1, interval=1)


def ask(question: str) -> str:
    """Answer as a slow model does."""
    time.sleep(0.6)
    return f"Facts about {question}."


@agent.task
def research(subject: str) -> str:
    with current().wait("llm", "stand-in"):
        answer = ask(subject)
    current().progress("ranked")
    return answer


if __name__ == "__main__":
    for subject in ("tides", "maps", "soil"):
        print(research(subject))
