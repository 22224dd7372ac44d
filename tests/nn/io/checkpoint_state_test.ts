import { assert, assertEquals, assertThrows } from "@std/assert";
import { joinState, splitState, StateFault } from "../../../nn/io/checkpoint_state.ts";

/** Stands for a tensor. */
class Fake {
  readonly id: number;
  constructor(id: number) {
    this.id = id;
  }
}

function split(state: unknown) {
  return splitState(state, (value) => value instanceof Fake);
}

/** What comes back after a trip through JSON text. */
function trip(state: unknown): unknown {
  const { json, tensors, arrays } = split(state);
  return joinState(JSON.parse(JSON.stringify(json)), {
    tensor: (name) => tensors.get(name),
    array: (name) => arrays.get(name),
  });
}

Deno.test("splitState() and joinState() give plain data back", () => {
  const state = {
    text: 'a"\n\u2028\ud800',
    list: [1, [true, false, null], {}, []],
    nested: { "": { "a.b": 1, "10": 2, constructor: 3 } },
  };
  assertEquals(trip(state), state);
});

Deno.test("splitState() and joinState() give numbers back with the same bits", () => {
  const numbers = [
    0,
    -0,
    NaN,
    Infinity,
    -Infinity,
    5e-324,
    Number.MAX_VALUE,
    0.1,
    1 / 3,
    2 ** 53 + 2,
    -1e21,
  ];
  const back = trip({ numbers }) as { numbers: number[] };
  numbers.forEach((number, i) => assert(Object.is(back.numbers[i], number), `${number}`));
});

Deno.test("splitState() and joinState() give special keys back", () => {
  const state = { $tensor: "x", a: { $number: "NaN", $: [NaN] }, ["__proto__"]: { $object: 1 } };
  const back = trip(state);
  assertEquals(back, state);
  assertEquals(Object.getPrototypeOf(back), Object.prototype);
  const bare: Record<string, number> = Object.create(null);
  bare["a"] = 1;
  assertEquals(trip(bare), { a: 1 });
});

Deno.test("splitState() names parts by their paths", () => {
  const a = new Fake(1), b = new Fake(2), c = new Fake(3);
  const d = Float64Array.of(1);
  const { json, tensors, arrays } = split({
    model: { "features.0.weight": a, bias: b },
    list: [c, d],
  });
  assertEquals([...tensors], [["model.features.0.weight", a], ["model.bias", b], ["list.0", c]]);
  assertEquals([...arrays], [["list.1", d]]);
  assertEquals(json, {
    model: {
      "features.0.weight": { $tensor: "model.features.0.weight" },
      bias: { $tensor: "model.bias" },
    },
    list: [{ $tensor: "list.0" }, { $array: "list.1", type: "Float64Array" }],
  });
});

Deno.test("splitState() keeps parts apart whose paths read the same", () => {
  const state = {
    a: { "b.c": new Fake(1), b: { c: new Fake(2) } },
    "a.b": { c: Int8Array.of(1), "c~2": new Fake(3) },
    __metadata__: new Fake(4),
  };
  const { tensors, arrays } = split(state);
  assertEquals([...tensors.keys()], ["a.b.c", "a.b.c~2", "a.b.c~2~2", "__metadata__~2"]);
  assertEquals([...arrays.keys()], ["a.b.c~3"]);
  assertEquals(trip(state), state);
});

Deno.test("splitState() keeps a part once that occurs twice", () => {
  const shared = new Fake(1), array = new Uint8Array(2);
  const state = { a: shared, b: [shared, array], c: array };
  const { tensors, arrays } = split(state);
  assertEquals([tensors.size, arrays.size], [1, 1]);
  const back = trip(state) as typeof state;
  assert(back.a === back.b[0] && back.c === back.b[1]);
});

Deno.test("splitState() takes a state that is one part", () => {
  const { json, tensors } = split(new Fake(1));
  assertEquals([...tensors.keys()], ["state"]);
  assertEquals(json, { $tensor: "state" });
});

Deno.test("splitState() takes the same object in two places, but not inside itself", () => {
  const shared = { x: 1 };
  assertEquals(trip([shared, { shared }]), [shared, { shared }]);
  const loop: unknown[] = [];
  loop.push({ loop });
  assertThrows(() => split({ a: loop }), TypeError, 'at "a.0.loop": it is a part of itself');
});

Deno.test("splitState() throws for what is no plain data, and says where", () => {
  const cases: [unknown, string][] = [
    [undefined, "undefined"],
    [1n, "bigint"],
    [() => 1, "function"],
    [Symbol("a"), "symbol"],
    [new Date(0), "a Date"],
    [new Map(), "a Map"],
    [new (class Model {})(), "a Model"],
    [new ArrayBuffer(1), "a ArrayBuffer"],
    [new DataView(new ArrayBuffer(1)), "a DataView"],
    [new Array(1), "undefined"],
  ];
  for (const [value, name] of cases) {
    const path = Array.isArray(value) ? "run.x.0" : "run.x";
    const expected = `Cannot save state at "${path}": it is ${name}, not a tensor, typed array,`;
    assertThrows(() => split({ run: { x: value } }), TypeError, expected);
  }
  assertThrows(() => split(undefined), TypeError, "Cannot save state: it is undefined");
});

Deno.test("splitState() throws for a state nested too deep", () => {
  let state: unknown = 1;
  for (let depth = 0; depth < 200; depth++) state = [state];
  assertEquals(trip(state), state);
  assertThrows(() => split([state]), RangeError, "beyond 200 levels");
});

Deno.test("joinState() throws for entries it does not know", () => {
  const parts = { tensor: () => 1, array: () => 1 };
  for (
    const json of [
      { $number: "1" },
      { $number: "toString" },
      { $tensor: 1 },
      { $array: "a" },
      { $array: "a", type: "DataView" },
      { $object: { a: 1 } },
      { $object: [["a"]] },
      { $object: [[1, 2]] },
      { $new: 1 },
    ]
  ) assertThrows(() => joinState({ a: [json] }, parts), StateFault, "unknown entry");
});
