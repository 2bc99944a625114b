"""The web app: describe a task, watch its adapter being made, try it, take it home.

`python -m app` serves it. The parts, from the bottom:

    settings.py     what the operator chose
    service/        plain functions behind every button, endpoint and tool; they know no Gradio
    pictures/       SVG drawings of adapters, the zoo and reports; untrusted text stays text
    tabs/           one file a tab: layout and wiring only
    ui.py, api.py   the page, and the endpoints for programs
    guard.py        what a request must be before Gradio sees it
    server.py       starts it safely
"""
