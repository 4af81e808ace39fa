"""A structured answer, as one trace: the step, and each call to the model that it takes.

Needs ``pip install '.[mlflow,instructor]'`` in a checkout of mlspan, and OPENAI_API_KEY (OPENAI_BASE_URL for another
server). Then ``mlspan show`` prints the trace, and ``mlspan ui`` opens it in MLflow.
"""

from __future__ import annotations

import instructor
import openai
from pydantic import BaseModel, Field

from mlspan import integrations, tracing

integrations.instructor.autolog(log_traces=True)
integrations.openai.autolog(log_traces=True)  # adds what the client alone knows: the service tier


class City(BaseModel):
    """What the weather is like in a city."""

    city: str
    degrees: int = Field(ge=-90)


if __name__ == "__main__":
    client = instructor.from_openai(openai.OpenAI())
    asked = [{"role": "user", "content": "How warm is Paris?"}]
    print(client.chat.completions.create(model="gpt-4o-mini", messages=asked, response_model=City, max_retries=2))
    tracing.flush()
