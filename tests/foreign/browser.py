"""The chat page in headless Chromium: browser.py URL [KEY]. Fails on any error that the browser reports.

Chromium is the distribution's where there is one, else Playwright's own (`playwright install --only-shell chromium`)."""
import shutil
import sys

from playwright.sync_api import expect, sync_playwright

url, key = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
program = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None)
problems, outside = [], []


def answer_of(page, question, temperature="0", most="48"):
    page.get_by_role("button", name="Settings").click() if page.locator("#settings").is_hidden() else None
    page.get_by_label("Temperature").fill(temperature)
    page.get_by_label("Max tokens").fill(most)
    page.get_by_label("Message", exact=True).fill(question)
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("button", name="Send")).to_be_visible(timeout=120_000)
    return page.locator(".assistant").last


def asks_for_the_key(page):
    expect(page.get_by_label("API key")).to_be_visible()
    expect(page.locator("#model")).to_contain_text("API key")
    problems.clear()  # the browser reports the 401
    page.get_by_label("API key").fill(key)
    page.get_by_label("API key").blur()
    expect(page.locator("#model")).not_to_contain_text("API key")


def answers(page):
    last = answer_of(page, "What is the capital of France?")
    expect(last.locator(".body")).to_contain_text("Paris")
    expect(last.locator(".note")).to_contain_text("tokens")
    # The conversation goes along, and is there after a reload.
    answer_of(page, "And of Italy?")
    expect(page.locator(".user")).to_have_count(2)
    page.reload()
    expect(page.locator(".assistant .body").first).to_contain_text("Paris")
    expect(page.locator(".message")).to_have_count(4)


def grows_past(page, body, length):
    for _ in range(600):  # the page's policy forbids what wait_for_function does
        if len(body.inner_text()) > length:
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"no more than {length} characters came")


def streams_and_stops(page):
    page.get_by_role("button", name="New chat").click()
    page.get_by_role("button", name="Settings").click() if page.locator("#settings").is_hidden() else None
    page.get_by_label("Max tokens").fill("1000")
    page.get_by_label("Message", exact=True).fill("Write a very long story about the sea, with ten chapters.")
    page.get_by_label("Message", exact=True).press("Enter")
    body = page.locator(".assistant .body")
    grows_past(page, body, 20)
    grows_past(page, body, len(body.inner_text()))
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".assistant .note")).to_contain_text("stopped")
    stopped = body.inner_text()
    page.wait_for_timeout(500)
    assert body.inner_text() == stopped, "it went on after the stop"
    page.get_by_label("Max tokens").fill("8")
    page.get_by_label("Max tokens").blur()
    page.get_by_role("button", name="Retry").click()
    expect(page.locator(".assistant .note")).to_contain_text("cut off", timeout=60_000)
    expect(page.locator(".assistant")).to_have_count(1)
    expect(page.get_by_role("button", name="Retry")).to_have_count(1)


SAMPLE = """# Head
Some **bold**, *italic*, `code <b>` and snake_case_name, 2 * 3 * 4.

- one
- two
  - inner

1. first
2. second

```html
<img src=x onerror="alert(1)">
```

| a | b |
|---|---|
| 1 | 2 |

<img src=x onerror="document.title='broken in'"> [bad](javascript:alert(1)) [good](https://example.org/)
"""


def renders(page):
    shown = page.evaluate(
        """sample => {
          const place = document.createElement("div");
          let partial = "";
          for (const character of sample) markdown(partial += character, place);  // as it streams
          const of = selector => [...place.querySelectorAll(selector)].map(one => one.textContent);
          return { heads: of("h1"), bold: of("strong"), italic: of("em"), code: of("p code"), blocks: of("pre code"), items: of("ul > li").length,
                   inner: of("ul ul li"), numbers: of("ol > li"), cells: of("td"), images: of("img").length,
                   links: [...place.querySelectorAll("a")].map(one => one.href), text: place.textContent };
        }""",
        SAMPLE,
    )
    assert shown["heads"] == ["Head"] and shown["bold"] == ["bold"] and shown["italic"] == ["italic"], shown
    assert shown["code"] == ["code <b>"] and shown["blocks"] == ['<img src=x onerror="alert(1)">'], shown
    assert shown["items"] == 3 and shown["inner"] == ["inner"] and shown["numbers"] == ["first", "second"], shown
    assert shown["cells"] == ["1", "2"] and shown["images"] == 0 and shown["links"] == ["https://example.org/"], shown
    assert "snake_case_name, 2 * 3 * 4." in shown["text"] and "<img src=x" in shown["text"], shown


def forbids(page):
    """The policy holds: no script but the page's own, no other server."""
    refused = page.evaluate(
        """async () => {
          const script = document.createElement("script");
          script.textContent = "window.injected = true";
          document.body.append(script);
          const reached = await fetch("http://127.0.0.1:1/").then(() => true, error => error.name);
          return [window.injected === undefined, reached];
        }"""
    )
    assert refused == [True, "TypeError"], refused
    assert sum("Content Security Policy" in problem for problem in problems) >= 2, problems
    problems.clear()


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
    page = browser.new_page()
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: outside.append(request.url) if not request.url.startswith((url, "data:")) else None)
    page.goto(url)
    if key:
        asks_for_the_key(page)
    answers(page)
    streams_and_stops(page)
    renders(page)
    assert not outside, outside
    forbids(page)
    page.get_by_role("button", name="light or dark").click()
    if len(sys.argv) > 3:
        page.screenshot(path=sys.argv[3])
    assert not problems, problems
    print("ok,", browser.browser_type.name, browser.version)
