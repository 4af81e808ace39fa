"""A chat with a model in this process, and one whose answer is streamed.

Needs ``pip install '.[mlflow,transformers]' torch`` in a checkout of mlspan; no key. Then ``mlspan show`` prints the
trace, and ``mlspan ui`` opens it in MLflow.

``MODEL`` names another model, or the folder of one.
"""

from __future__ import annotations

import os
import threading

from transformers import TextIteratorStreamer, pipeline

from mlspan import integrations, tracing

integrations.transformers.autolog(log_traces=True)

pipe = pipeline("text-generation", model=os.environ.get("MODEL", "HuggingFaceTB/SmolLM2-135M-Instruct"))
ASKED = [{"role": "user", "content": "how are you"}]


@tracing.trace(name="streamed", kind="chain")
def stream_answer() -> str:
    """Generate in a thread, as transformers has it; ``tracing.wrap`` takes the trace along."""
    text = pipe.tokenizer.apply_chat_template(ASKED, add_generation_prompt=True, tokenize=False)
    ids = pipe.tokenizer(text, return_tensors="pt")
    streamer = TextIteratorStreamer(pipe.tokenizer, skip_prompt=True, skip_special_tokens=True)
    asked = {name: ids[name] for name in ("input_ids", "attention_mask")}
    options = {"max_new_tokens": 20, "streamer": streamer}
    thread = threading.Thread(target=tracing.wrap(pipe.model.generate), kwargs=asked | options)
    thread.start()
    answer = "".join(streamer)
    thread.join()
    return answer


if __name__ == "__main__":
    with tracing.session("demo"), tracing.user("ada"):
        print("answer:", pipe(ASKED, max_new_tokens=20)[0]["generated_text"][-1]["content"])
        print("streamed:", stream_answer())
    tracing.flush()
