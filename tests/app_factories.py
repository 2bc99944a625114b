"""What tests of the app share: hostile texts, ways to click, and what PEFT answers."""

from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
AXE = ROOT / "tests" / "app" / "axe.min.js"
TABS = ("Generate", "Try", "Inspect", "Combine", "Lens", "Zoo", "Search", "About")

HOSTILE = (
    "<img src=x onerror=alert(1)><script>alert(2)</script>",
    "[click](javascript:alert(3)) ![](https://evil.example/a.png) <iframe src=//evil.example>",
    "${alert(4)} {{constructor.constructor('alert(5)')()}} </style><svg onload=alert(6)>",
)


def open_tab(page: Any, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def generate(page: Any, description: str, inputs: str) -> None:
    page.fill("#description textarea", description)
    page.fill("#generate-inputs textarea", inputs)
    page.click("#generate")
    page.wait_for_selector("#answers td.lg-answer")


def answers(page: Any, root: str) -> list[list[str]]:
    """The cells of the table of answers, row by row."""
    rows = page.query_selector_all(f"{root} tbody tr")
    return [[cell.inner_text() for cell in row.query_selector_all("td")] for row in rows]


def download(page: Any, button: str, folder: Path) -> Path:
    """What a button gives to take home."""
    with page.expect_download() as waiting:
        page.click(button)
    path = folder / str(waiting.value.suggested_filename)
    waiting.value.save_as(path)
    return path


def tab_to(page: Any, selector: str, *, key: str = "Tab", most: int = 150) -> None:
    """Press the Tab key, or it with Shift, until an element has the focus."""
    has_focus = "wanted => Boolean(document.activeElement.closest(wanted))"
    for _ in range(most):
        if page.evaluate(has_focus, selector):
            return
        page.keyboard.press(key)
    raise AssertionError(f"the Tab key never reaches {selector}")


def peft_answer(folder: Path, text: str) -> str:
    """What the embedded base answers with an adapter folder that PEFT itself has loaded."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from lora_gen import resolve_base

    place = resolve_base("tiny_lm")
    tokenizer = AutoTokenizer.from_pretrained(place)
    base = AutoModelForCausalLM.from_pretrained(place)
    model = PeftModel.from_pretrained(base, folder).eval()
    chat = [{"role": "user", "content": text}]
    question = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    ids = tokenizer(question, return_tensors="pt", add_special_tokens=False)
    made = model.generate(**ids, max_new_tokens=64, do_sample=False)
    answer = made[0, ids["input_ids"].shape[1] :]
    # This base ends an answer with a new line, which `generate` hands out as its last token.
    return str(tokenizer.decode(answer, skip_special_tokens=True)).removesuffix("\n")
