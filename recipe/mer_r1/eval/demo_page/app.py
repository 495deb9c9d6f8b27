"""The page's components, by gradio, joined to its behaviour."""

from __future__ import annotations

from collections.abc import Mapping

import gradio as gr

from recipe.mer_r1.eval.demo_page import clips, markup
from recipe.mer_r1.eval.demo_page.page import EMPTY, Page

# Whatever a component of gradio would fetch from elsewhere (a font, a program), the browser refuses.
HEAD = (
    '<meta http-equiv="Content-Security-Policy" '
    "content=\"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:\">"
)
# Of the system: gradio's own themes bring fonts along.
THEME = gr.themes.Default(font=("system-ui", "sans-serif"), font_mono=("ui-monospace", "monospace"))


def build(page: Page, facts: Mapping[str, str], title: str) -> gr.Blocks:
    """The whole page; `facts` says what it runs on."""
    with gr.Blocks(title=title, analytics_enabled=False) as blocks:
        gr.Markdown(f"# {title}")
        gr.HTML(markup.facts(facts), elem_id="facts")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                video = gr.Video(label="Clip (video with sound)", sources=["upload"], height=260, elem_id="clip")
                chosen = gr.Dropdown(
                    clips.choices(page.rows),
                    value=None,
                    label="… or a clip from the shard",
                    visible=bool(page.rows),
                    elem_id="chosen",
                )
                subtitle = gr.Textbox(label="Subtitle: the spoken words (optional)", lines=2, elem_id="subtitle")
                button = gr.Button("Answer", variant="primary", elem_id="answer")
                wheel = gr.Radio(
                    list(page.wheels.ids),
                    value=page.wheels.ids[0],
                    label="Emotion wheel",
                    info="One of five tables that group words into categories.",
                )
            with gr.Column(scale=5, min_width=480):
                answers = gr.HTML(EMPTY, elem_id="answers")
                bars = gr.HTML("", elem_id="bars")
        results = gr.State(None)
        outputs = [results, answers, bars]
        # One clip at a time: one model. Nothing here is an API.
        button.click(
            page.answer, [video, subtitle, chosen, wheel], outputs, concurrency_limit=1, api_visibility="private"
        )
        wheel.change(page.show, [results, wheel], outputs[1:], api_visibility="private")
        chosen.input(page.choose, chosen, [video, subtitle], api_visibility="private")
        # Another clip in the player is no longer the shard's.
        gr.on([video.upload, video.clear], lambda: None, None, chosen, api_visibility="private")
    return blocks
