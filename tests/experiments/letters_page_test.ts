/// <reference lib="dom" />

import { assert, assertEquals } from "@std/assert";
import { LETTERS_BODY } from "../../experiments/_letters_page_html.ts";

Deno.test({
  name: "the page trains, reads what is drawn on it and shows how the others are read",
  ignore: !("document" in globalThis),
  async fn() {
    document.body.innerHTML = LETTERS_BODY;
    const byId = (id: string) => document.getElementById(id)!;
    const { startLettersPage } = await import("../../experiments/_letters_page.ts");
    const training = startLettersPage({ letters: 64, valLetters: 30, steps: 20 });
    const pause = byId("pause") as HTMLButtonElement;
    const failed = () => byId("status").classList.contains("error");
    while (pause.disabled && !failed()) await new Promise((resolve) => setTimeout(resolve, 20));

    const paper = byId("paper");
    paper.setPointerCapture = () => {}; // no pointer is there
    const draw = () => {
      const strokes = [["down", 60, 30], ["move", 60, 240], ["move", 200, 240], ["up", 0, 0]];
      for (const [type, x, y] of strokes as [string, number, number][]) {
        const init = { buttons: 1, clientX: x, clientY: y, pointerId: 1 };
        paper.dispatchEvent(new PointerEvent(`pointer${type}`, init));
      }
    };
    const guessed = () => byId("guesses").childElementCount;
    const until = async (done: () => boolean) => {
      while (!done() && !failed()) await new Promise((resolve) => setTimeout(resolve, 20));
    };
    pause.click();
    draw();
    await until(() => guessed() === 5);
    byId("clear").click();
    draw();
    byId("clear").click(); // before the answer
    await new Promise((resolve) => setTimeout(resolve, 300));
    assertEquals(guessed(), 0, "no guesses of what was wiped out");
    draw();
    pause.click();
    await training;
    assertEquals(byId("steps").textContent, "20");
    assert(Number(byId("loss").textContent) > 0, byId("loss").textContent);
    assert(/^\d+\.\d %$/.test(byId("right").textContent), byId("right").textContent);
    assertEquals(byId("gallery").querySelectorAll("figure canvas").length, 30);
    assertEquals(byId("guesses").querySelectorAll("tr meter").length, 5);
    assert(/^AlexNet of 744,138 parameters on /.test(byId("status").textContent));
    document.body.innerHTML = "";
  },
});
