"""A notebook in JupyterLab, as the person before the browser sees and uses it."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

_SOON = 60.0  # seconds

_T = TypeVar("_T")


@contextmanager
def browser() -> Iterator[Chrome]:
    """Chromium, without a window."""
    driver = shutil.which("chromedriver")
    if driver is None:
        sys.exit("Chromium's driver is not on the PATH")
    options = ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--window-size=1100,860"):
        options.add_argument(argument)
    chrome = Chrome(options=options, service=Service(driver))
    try:
        yield chrome
    finally:
        chrome.quit()


class NotebookPage:
    """A notebook that is open in JupyterLab; its cells have names.

    Each method waits for what it is to see, and fails if that does not come within a minute.
    """

    def __init__(self, driver: Chrome, url: str, names: list[str]) -> None:
        self._driver = driver
        self._names = names
        driver.get(url)

    # --- to do ------------------------------------------------------------------------------------

    def choose(self, display_name: str) -> None:
        """Choose a kernel in the dialog that asks for one."""
        option = self._find(f"//div[contains(@class, 'jp-Dialog')]//option[.='{display_name}']")
        option.click()
        self.accept()
        self._find(
            f"//*[contains(@class, 'jp-KernelName')]//*[contains(., '{display_name}')]"
            f" | //*[contains(@class, 'jp-KernelName') and contains(., '{display_name}')]"
        )
        self.waits_for_idle()

    def run(self, name: str) -> None:
        """Run a cell."""
        editor = self.has(name, ".jp-InputArea-editor .cm-content")
        self._driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", editor)
        editor.click()
        editor.send_keys(Keys.CONTROL, Keys.ENTER)

    def click(self, command: str) -> None:
        """Click a button of the toolbar."""
        self._find(f"//*[@data-command='{command}']").click()

    def accept(self) -> None:
        """Accept a dialog."""
        self._find("//button[contains(@class, 'jp-mod-accept')]").click()

    def answer(self, name: str, text: str) -> None:
        """Answer the question of a cell."""
        self.has(name, "input.jp-Stdin-input").send_keys(text, Keys.ENTER)

    def press(self, element: WebElement, key: str) -> None:
        """Press a key on an element."""
        element.send_keys(getattr(Keys, key))

    # --- to see -----------------------------------------------------------------------------------

    def has(self, name: str, selector: str) -> WebElement:
        """Return the first such element of a cell."""
        return self._wait(
            lambda: (self._cell(name).find_elements(By.CSS_SELECTOR, selector) or [None])[0],
            f"{selector} in the cell {name}",
        )

    def text(self, name: str) -> str:
        """Return the text of a cell's output."""
        found = self._cell(name).find_elements(By.CSS_SELECTOR, ".jp-OutputArea-output")
        return "\n".join(each.text for each in found)

    def shows(self, name: str, text: str) -> None:
        """Wait until the output of a cell contains a text."""
        self._wait(lambda: text in self.text(name) + "\n", f"{text!r} below the cell {name}")

    def ends(self, name: str) -> None:
        """Wait until a cell has a number, which it gets at its end."""
        prompt = self.has(name, ".jp-InputPrompt")
        self._wait(lambda: prompt.text.strip("[]: ").isdigit(), f"the end of the cell {name}")

    def says(self, text: str) -> None:
        """Wait for a dialog with this text, and dismiss it."""
        self._find(f"//div[contains(@class, 'jp-Dialog-content')]//*[contains(., '{text}')]")
        self.accept()

    def waits_for_idle(self) -> None:
        """Wait until Lab shows that the kernel is idle."""
        self._find("//*[contains(@class, 'jp-Notebook-ExecutionIndicator')][@data-status='idle']")

    # --- how --------------------------------------------------------------------------------------

    def _cell(self, name: str) -> WebElement:
        cells = self._driver.find_elements(By.CSS_SELECTOR, ".jp-Notebook .jp-Cell")
        return cells[self._names.index(name)]

    def _find(self, path: str) -> WebElement:
        return self._wait(lambda: (self._driver.find_elements(By.XPATH, path) or [None])[0], path)

    def _wait(self, look: Callable[[], _T | None], what: str) -> _T:
        deadline = time.monotonic() + _SOON
        while True:
            try:
                if found := look():
                    return found
            except (StaleElementReferenceException, IndexError):
                pass  # Lab has just drawn it anew
            if time.monotonic() > deadline:
                self._driver.save_screenshot("lab-failed.png")
                sys.exit(f"Lab does not show {what}: see lab-failed.png")
            time.sleep(0.1)
