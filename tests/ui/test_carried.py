"""Prompt, seed and size come along from the tab that was in sight before, whoever chose it: a click, a reload, or a button of the page."""

from playwright.sync_api import expect

from tests.ui.driving import choose_size, made, prompt_field, run, set_steps


def choose_tab(page, name):
    page.get_by_role("tab", name=name, exact=True).click()
    page.locator(f"#prompt-{name.lower()} textarea:visible").wait_for()


def type_prompt(page, text):
    """Type a prompt, and wait until the program has kept it."""
    with page.expect_response(lambda response: f'"{text}"' in (response.request.post_data or "")):
        prompt_field(page).fill(text)


def size_field(page):
    return page.get_by_label("Size", exact=True).locator("visible=true")


def test_a_prompt_comes_along_after_a_reload_and_so_does_one_that_replaces_it(visit):
    page = visit(tab="Canny")
    type_prompt(page, "a blue ball")
    page.reload()
    expect(page.locator("#prompt-canny textarea:visible")).to_have_value("a blue ball")
    choose_tab(page, "Depth")
    expect(prompt_field(page)).to_have_value("a blue ball")
    choose_tab(page, "Canny")
    page.reload()
    expect(page.locator("#prompt-canny textarea:visible")).to_have_value("a blue ball")
    type_prompt(page, "a red cube")
    choose_tab(page, "Depth")
    expect(prompt_field(page)).to_have_value("a red cube")


def test_an_image_takes_its_prompt_along_and_what_is_typed_there_goes_on(visit):
    page = visit()
    type_prompt(page, "a blue ball")
    choose_tab(page, "Canny")
    expect(prompt_field(page)).to_have_value("a blue ball")
    choose_tab(page, "Text")
    type_prompt(page, "a red cube")
    set_steps(page, 1)
    run(page)
    made(page, "text")
    page.get_by_role("button", name="Use in Canny", exact=True).locator("visible=true").click()
    expect(page.locator("#prompt-canny textarea:visible")).to_have_value("a red cube")
    type_prompt(page, "a green cone")
    choose_tab(page, "Depth")
    expect(prompt_field(page)).to_have_value("a green cone")


def test_a_size_comes_along_only_if_somebody_chose_it(visit):
    page = visit()
    choose_tab(page, "Canny")
    expect(size_field(page)).to_have_value("Match photo")
    choose_tab(page, "Text")
    choose_size(page, "192x128")
    choose_tab(page, "Depth")
    expect(size_field(page)).to_have_value("192x128")
