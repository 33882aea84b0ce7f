"""The page in a real browser, without a window: a program is run, watched, cancelled, mended."""

import asyncio
import re
import shutil
from collections.abc import Awaitable, Callable
from importlib.resources import files

import pytest
from playwright.async_api import HttpCredentials, Page, Route, async_playwright, expect

from ramet.runtime.tokenizer import Tokenizer
from tests.runtime.server.serving import Served, listening, serve

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = "--disable-gpu --disable-quic --no-first-run --disable-background-networking "
QUIET += "--disable-component-update --disable-sync --no-sandbox"
PROGRAM = """\
program both(start: str):
    "{start}"
    fork side in ["left", "right"] as sides:
        " {side}:"
        gen word(max_tokens=12, ignore_eos=true)
    gen rest(max_tokens=6, ignore_eos=true)
    return rest
"""
ENDLESS = """\
program endless():
    "On and on"
    gen text(max_tokens=3000, ignore_eos=true)
"""

in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")
Visit = Callable[[Page, Served], Awaitable[None]]


def visit(tokenizer: Tokenizer, body: Visit, key: str | None = None) -> None:
    """Open the page of a server on the toy model; nothing may be left in the console."""
    keys = {} if key is None else {key: "me"}
    password = None if key is None else HttpCredentials(username="me", password=key)

    async def main() -> None:
        complaints: list[str] = []

        def note(text: str) -> None:
            if "status of 400" not in text:  # a mistake of a program, which the page shows
                complaints.append(text)

        async with (
            listening(tokenizer, key=key, keys=keys) as (served, _),
            async_playwright() as playwright,
        ):
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET.split())
            page = await browser.new_page(http_credentials=password)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("console", lambda message: note(message.text))
            await page.goto(str(served.client.base_url))
            await body(page, served)
            await browser.close()
        assert not complaints

    asyncio.run(main())


async def ran(page: Page, source: str, arguments: str = "{}") -> None:
    await page.get_by_label("Source").fill(source)
    await page.get_by_label("Arguments").fill(arguments)
    await page.get_by_role("button", name="Run").click()


@in_a_browser
def test_a_program_fills_in_with_its_branches_and_its_cost(byte_tokenizer: Tokenizer) -> None:
    async def body(page: Page, served: Served) -> None:
        await ran(page, PROGRAM, '{"start": "It turns to the left or to the right, one of both"}')
        await expect(page.get_by_role("status")).to_have_text(re.compile(r"^done in"))
        assert await page.locator(".state h3").all_inner_texts() == [
            "program",
            "branch 0",
            "branch 1",
        ]
        names = await page.locator("#states dt").all_inner_texts()
        assert names == ["word", "word", "rest"]
        assert all("length" in text for text in await page.locator("#states dd").all_inner_texts())
        generated = page.locator("#usage div", has_text="tokens generated").locator("dd")
        await expect(generated).to_have_text("30")
        await expect(page.locator("#spans")).to_contain_text("It turns to the left")
        await expect(page.locator("#spans")).to_contain_text("by both.word")
        await page.get_by_role("button", name="Forget").click()
        await expect(page.locator("#spans")).to_have_text("Nothing is cached.")

    visit(byte_tokenizer, body)


@in_a_browser
def test_with_keys_the_password_of_the_browser_is_one(byte_tokenizer: Tokenizer) -> None:
    async def body(page: Page, served: Served) -> None:
        await ran(page, PROGRAM, '{"start": "One key for all of it"}')
        await expect(page.get_by_role("status")).to_have_text(re.compile(r"^done in"))
        await expect(page.locator("#spans")).to_contain_text("One key for")

    visit(byte_tokenizer, body, key="a-key")


@in_a_browser
def test_a_mistake_is_shown_in_its_place(byte_tokenizer: Tokenizer) -> None:
    async def body(page: Page, served: Served) -> None:
        await page.get_by_label("Source").fill("program p():\n    gen x(max_tokes=3)\n")
        await page.get_by_role("button", name="Check").click()
        mistakes = page.get_by_role("alert")
        await expect(mistakes).to_contain_text("did you mean 'max_tokens'?")
        await expect(mistakes).to_contain_text("gen x(max_tokes=3) ^")
        await ran(page, PROGRAM, "{")
        await expect(mistakes).to_contain_text("the arguments are no JSON")
        await ran(page, PROGRAM)
        missing = "missing a required argument: 'start'"
        await expect(page.get_by_role("status")).to_contain_text(missing)

    visit(byte_tokenizer, body)


@in_a_browser
def test_a_run_can_be_cancelled_by_keyboard_alone(byte_tokenizer: Tokenizer) -> None:
    async def body(page: Page, served: Served) -> None:
        source = page.get_by_label("Source")
        await source.fill(ENDLESS)
        await page.get_by_label("Arguments").fill("{}")
        await source.focus()
        await page.keyboard.press("Control+Enter")
        await expect(page.locator("#states dd")).not_to_be_empty()
        await page.keyboard.press("Tab")
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("button", name="Cancel")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("status")).to_have_text("cancelled")
        assert await served.all_back()

    visit(byte_tokenizer, body)


@in_a_browser
def test_the_focus_stays_with_the_run(byte_tokenizer: Tokenizer) -> None:
    async def body(page: Page, served: Served) -> None:
        run = page.get_by_role("button", name="Run")
        cancel = page.get_by_role("button", name="Cancel")
        await page.get_by_label("Source").fill(ENDLESS)
        await page.get_by_label("Arguments").fill("{}")
        await run.focus()
        await page.keyboard.press("Enter")
        await expect(cancel).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("status")).to_have_text("cancelled")
        await expect(run).to_be_focused()

    visit(byte_tokenizer, body)


ANSWERING = """\
([path, text, ends]) => {
  const real = window.fetch;
  window.fetch = (asked, how) => {
    if (asked !== path) return real(asked, how);
    if (text === null) return Promise.reject(new Error("cut off"));
    const body = new ReadableStream({
      start(stream) { stream.enqueue(new TextEncoder().encode(text)); },
      async pull(stream) {
        await new Promise((go) => setTimeout(go, 100));
        ends ? stream.close() : stream.error(new Error("cut off"));
      },
    });
    return Promise.resolve(new Response(body));
  };
}
"""
BEGUN = 'event: created\ndata: {"id": "prog_1", "status": "running"}\n\n'


@in_a_browser
def test_a_run_that_is_broken_off_is_neither_done_nor_not_run(byte_tokenizer: Tokenizer) -> None:
    async def body(page: Page, served: Served) -> None:
        said, programs = page.get_by_role("status"), "v1/programs"
        await page.evaluate(ANSWERING, [programs, BEGUN, True])
        await ran(page, PROGRAM)
        await expect(said).to_have_text("broken off: the server sent no end of it")
        await page.evaluate(ANSWERING, [programs, BEGUN, False])
        await ran(page, PROGRAM)
        await expect(said).to_have_text("broken off: cut off")
        await page.evaluate(ANSWERING, [programs, None, False])
        await ran(page, PROGRAM)
        await expect(said).to_have_text("not run")
        await page.evaluate(ANSWERING, ["v1/cache", None, False])
        await page.get_by_role("button", name="Forget").click()
        await expect(page.locator("#cache-said")).to_have_text("not forgotten: cut off")
        await ran(page, PROGRAM)
        await expect(page.locator("#cache-said")).to_have_text("cannot be shown: cut off")

    visit(byte_tokenizer, body)


@in_a_browser
def test_metrics_are_asked_for_one_at_a_time_and_only_when_seen(byte_tokenizer: Tokenizer) -> None:
    async def body(page: Page, served: Served) -> None:
        asked, go_on = 0, asyncio.Event()

        async def slow(route: Route) -> None:
            nonlocal asked
            asked += 1
            await go_on.wait()
            await route.continue_()

        await page.route("**/metrics", slow)
        await page.wait_for_timeout(2500)
        assert asked == 1
        go_on.set()
        await page.wait_for_timeout(1200)
        assert asked == 2
        await page.evaluate("Object.defineProperty(document, 'hidden', { value: true })")
        await page.wait_for_timeout(200)
        before = asked
        await page.wait_for_timeout(1500)
        assert asked == before

    visit(byte_tokenizer, body)


def test_the_page_asks_nobody_else_and_runs_no_foreign_script(byte_tokenizer: Tokenizer) -> None:
    names = [file.name for file in (files("ramet.runtime.server") / "page").iterdir()]

    async def body(served: Served) -> None:
        for path in ("/", *(f"/page/{name}" for name in names)):
            answer = await served.client.get(path)
            assert answer.status_code == 200
            assert "http://" not in answer.text.replace("http://www.w3.org/2000/svg", "")
            assert "https://" not in answer.text
            assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert (await served.client.get("/page/none.js")).status_code == 404

    assert {"index.html", "page.js", "run.js", "page.css"} <= {*names}
    serve(byte_tokenizer, body)
