"""A page of Streamlit's, run from its top at every change; the questions ``stop`` and ``again`` leave it early."""

from __future__ import annotations

import openai
import streamlit as st

from mlspan import integrations, tracing

integrations.openai.autolog()
text = st.text_input("question")
if text:
    with tracing.session("page"), tracing.span("page"):
        messages = [{"role": "user", "content": text}]
        answer = openai.OpenAI().chat.completions.create(model="gpt-x", messages=messages)  # type: ignore[arg-type]
        st.write(answer.choices[0].message.content)
        if text == "stop":
            st.stop()
        if text == "again" and "again" not in st.session_state:
            st.session_state["again"] = True
            st.rerun()
    st.write("the end")
