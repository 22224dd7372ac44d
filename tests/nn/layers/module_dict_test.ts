import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { init, nn, randn, readAll, tensor } from "../../../mod.ts";

await init();

/** Heads of a network by name. */
function heads(): nn.ModuleDict<nn.Linear> {
  return new nn.ModuleDict({ word: new nn.Linear(2, 3), tag: new nn.Linear(2, 1) });
}

Deno.test("ModuleDict gives its modules by name, in order", () => {
  using dict = heads();
  const [word, tag] = [dict.get("word")!, dict.get("tag")!];
  assertEquals([word.outFeatures, tag.outFeatures], [3, 1]);
  assertEquals(dict.size, 2);
  assertEquals(dict.keys(), ["word", "tag"]);
  assertEquals(dict.values(), [word, tag]);
  assertEquals([...dict], [["word", word], ["tag", tag]]);
  assertEquals([dict.has("word"), dict.has("other")], [true, false]);
  assertEquals(dict.get("other"), undefined);
  using empty = new nn.ModuleDict();
  assertEquals([empty.size, [...empty], `${empty}`], [0, [], "ModuleDict()"]);
});

Deno.test("ModuleDict adds, replaces and takes out modules", async () => {
  using dict = heads();
  using first = new nn.Linear(1, 1);
  using second = new nn.Linear(1, 2);
  using gone = dict.get("word")!;
  assertStrictEquals(dict.set("more", first), dict);
  assertEquals(dict.keys(), ["word", "tag", "more"]);
  dict.set("word", second);
  assertStrictEquals(dict.get("word"), second);
  assertEquals(dict.keys(), ["word", "tag", "more"]);
  assert(dict.delete("word"));
  assertEquals([dict.delete("word"), dict.delete("other")], [false, false]);
  assertEquals([dict.keys(), dict.size, dict.has("word")], [["tag", "more"], 2, false]);
  dict.set("word", second);
  assertEquals(dict.keys(), ["tag", "more", "word"]);
  // What was replaced or taken out lives on.
  assertEquals((await readAll([gone.weight, second.weight])).map((w) => w.length), [6, 2]);
});

Deno.test("ModuleDict registers the parameters of its modules under their names", async () => {
  using dict = heads();
  const names = ["word.weight", "word.bias", "tag.weight", "tag.bias"];
  assertEquals(Object.keys(dict.stateDict()), names);
  assertEquals(dict.namedParameters().map(([name]) => name), names);
  assertEquals(dict.namedModules().map(([name]) => name), ["", "word", "tag"]);

  class Net extends nn.Module {
    heads = heads();
    override forward(): never {
      throw new Error("not called");
    }
  }
  using net = new Net();
  assertEquals(Object.keys(net.stateDict()), names.map((name) => `heads.${name}`));
  using weight = tensor([[5, 6]]);
  net.loadStateDict({ "heads.tag.weight": weight }, { strict: false });
  assertEquals(await net.heads.get("tag")!.weight.array(), [[5, 6]]);
  net.eval();
  assert(net.heads.values().every((head) => !head.training));
  net.heads.delete("word");
  assertEquals(Object.keys(net.stateDict()), ["heads.tag.weight", "heads.tag.bias"]);
});

Deno.test("ModuleDict gives each module its gradients", async () => {
  using dict = heads();
  using x = randn([4, 2]);
  using loss = dict.get("tag")!.forward(x).sum();
  loss.backward();
  assertEquals(dict.get("word")!.weight.grad, null);
  assertEquals(await dict.get("tag")!.bias!.grad!.array(), [4]);
});

Deno.test("ModuleDict prints as PyTorch's", () => {
  using dict = new nn.ModuleDict<nn.Module>({
    act: new nn.ReLU(),
    more: new nn.ModuleDict({ tag: new nn.Linear(2, 1) }),
  });
  assertEquals(
    `${dict}`,
    `ModuleDict(
  (act): ReLU()
  (more): ModuleDict(
    (tag): Linear(in_features=2, out_features=1, bias=True)
  )
)`,
  );
});

Deno.test("ModuleDict refuses names that are empty, have a dot or belong to modules", () => {
  using dict = new nn.ModuleDict({ act: new nn.ReLU() });
  for (const name of ["", "a.b", "."]) {
    assertThrows(
      () => dict.set(name, new nn.ReLU()),
      TypeError,
      `Cannot put a module under ${JSON.stringify(name)} in a ModuleDict: a name must not be ` +
        "empty or have a dot",
    );
  }
  const taken = ["training", "forward", "keys", "size", "constructor", "toString", "__proto__"];
  for (const name of taken) {
    assertThrows(
      () => dict.set(name, new nn.ReLU()),
      TypeError,
      `Cannot put a module under ${JSON.stringify(name)} in a ModuleDict: modules have a ` +
        "property of that name",
    );
    // Nor are they taken for modules.
    assertEquals([dict.get(name), dict.has(name), dict.delete(name)], [undefined, false, false]);
  }
  assertThrows(() => new nn.ModuleDict({ train: new nn.ReLU() }), TypeError, "of that name");
  assertEquals(dict.keys(), ["act"]);
  assertThrows(
    () => dict.forward(),
    TypeError,
    "Cannot call forward of a ModuleDict: call its modules one by one",
  );
});
