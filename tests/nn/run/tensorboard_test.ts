import { assertEquals, assertThrows } from "@std/assert";
import { EventWriter } from "../../../nn/run/mod.ts";
import { crc32c, encodeEvent, frameRecord, maskCrc } from "../../../nn/run/tensorboard.ts";

Deno.test("crc32c() gives the check values of RFC 3720", () => {
  assertEquals(crc32c(new TextEncoder().encode("123456789")), 0xe3069283);
  assertEquals(crc32c(new Uint8Array(32)), 0x8a9136aa);
  assertEquals(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8ab43);
  assertEquals(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i)), 0x46dd794e);
  assertEquals(crc32c(new Uint8Array()), 0);
});

Deno.test("maskCrc() rotates by 15 bits and adds the constant", () => {
  // 0x80000000 rotated right by 15 is 0x00010000.
  assertEquals(maskCrc(0x80000000), 0xa283ead8);
  // 0x00007fff rotated is 0xfffe0000; the sum wraps.
  assertEquals(maskCrc(0x00007fff), (0xfffe0000 + 0xa282ead8) % 2 ** 32);
});

Deno.test("encodeEvent() gives the bytes worked out by hand", () => {
  assertEquals(
    encodeEvent({ wallTime: 1, fileVersion: "brain.Event:2" }).toHex(),
    // field 1, 64 bits: 1.0 · field 3, 13 bytes of text
    "09" + "000000000000f03f" + "1a0d" + "627261696e2e4576656e743a32",
  );
  assertEquals(
    encodeEvent({ wallTime: 0.5, step: 300, scalars: { a: 1.5, bc: -2 } }).toHex(),
    // step 300 is the varint ac 02; summary of 8 + 2 + 9 + 2 bytes; each value: tag, then f32
    "09" + "000000000000e03f" + "10ac02" + "2a15" +
      "0a08" + "0a0161" + "150000c03f" + "0a09" + "0a026263" + "15000000c0",
  );
  assertEquals(
    encodeEvent({ wallTime: 0, step: 2 ** 40, sessionStart: true }).toHex(),
    "09" + "0000000000000000" + "10" + "808080808020" + "3a020801",
  );
});

Deno.test("encodeEvent() throws on a step that is no count", () => {
  for (const step of [-1, 0.5, NaN]) {
    assertThrows(() => encodeEvent({ wallTime: 0, step }), RangeError, "integer >= 0");
  }
});

Deno.test("frameRecord() puts length and masked CRCs around the data", () => {
  const record = frameRecord(new TextEncoder().encode("123456789"));
  const view = new DataView(record.buffer);
  assertEquals(record.length, 8 + 4 + 9 + 4);
  assertEquals(view.getBigUint64(0, true), 9n);
  assertEquals(view.getUint32(8, true), maskCrc(crc32c(record.subarray(0, 8))));
  assertEquals(view.getUint32(21, true), maskCrc(0xe3069283));
});

Deno.test("EventWriter writes events that read back, one file a start", async () => {
  const dir = await Deno.makeTempDir();
  try {
    let time = 1000;
    const options = { now: () => time };
    let first: string;
    {
      using events = new EventWriter(dir, options);
      first = events.path;
      time = 1001;
      events.scalars(1, { "loss/train": 2.5, accuracy: 0.25 });
      events.scalars(2, { "loss/train": 1.5 });
    }
    time = 1000.5;
    let second: string;
    {
      using events = new EventWriter(dir, { ...options, resumeAt: 2 });
      second = events.path;
      events.scalars(2, { "loss/train": 1.25 });
    }
    assertEquals(first, `${dir}/events.out.tfevents.1000.lathe`);
    assertEquals(second, `${first}.1`);
    assertEquals(readEvents(first), [
      { wallTime: 1000, version: "brain.Event:2" },
      { wallTime: 1001, step: 1, scalars: { "loss/train": 2.5, accuracy: 0.25 } },
      { wallTime: 1001, step: 2, scalars: { "loss/train": 1.5 } },
    ]);
    assertEquals(readEvents(second), [
      { wallTime: 1000.5, version: "brain.Event:2" },
      { wallTime: 1000.5, step: 2, session: 1 },
      { wallTime: 1000.5, step: 2, scalars: { "loss/train": 1.25 } },
    ]);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

interface ReadEvent {
  wallTime?: number;
  step?: number;
  version?: string;
  session?: number;
  scalars?: Record<string, number>;
}

/** Reads an event file by the rules of the format, checking every CRC. */
function readEvents(path: string): ReadEvent[] {
  const bytes = Deno.readFileSync(path);
  const view = new DataView(bytes.buffer);
  const events: ReadEvent[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = Number(view.getBigUint64(at, true));
    assertEquals(view.getUint32(at + 8, true), maskCrc(crc32c(bytes.subarray(at, at + 8))));
    const data = bytes.slice(at + 12, at + 12 + length);
    assertEquals(view.getUint32(at + 12 + length, true), maskCrc(crc32c(data)));
    at += 16 + length;
    const event: ReadEvent = {};
    for (const { field, value } of fieldsOf(data)) {
      if (field === 1) event.wallTime = new DataView(bytesOf(value).buffer).getFloat64(0, true);
      if (field === 2) event.step = Number(value);
      if (field === 3) event.version = new TextDecoder().decode(bytesOf(value));
      if (field === 7) event.session = Number(fieldsOf(bytesOf(value))[0]!.value);
      if (field === 5) {
        event.scalars = Object.fromEntries(
          fieldsOf(bytesOf(value)).map((summary) => {
            const [tag, number] = fieldsOf(bytesOf(summary.value));
            const scalar = new DataView(bytesOf(number!.value).buffer).getFloat32(0, true);
            return [new TextDecoder().decode(bytesOf(tag!.value)), scalar];
          }),
        );
      }
    }
    events.push(event);
  }
  return events;
}

function bytesOf(value: number | Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  if (typeof value === "number") throw new TypeError("Not a field of bytes");
  return value;
}

/** The fields of a protobuf message: numbers of varints, bytes of everything else. */
function fieldsOf(data: Uint8Array): { field: number; value: number | Uint8Array<ArrayBuffer> }[] {
  const fields = [];
  let at = 0;
  const varint = () => {
    let value = 0, scale = 1;
    for (;; scale *= 128) {
      const byte = data[at++]!;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
  };
  while (at < data.length) {
    const tag = varint();
    const wire = tag & 7;
    if (wire === 0) fields.push({ field: tag >> 3, value: varint() });
    else {
      const length = wire === 1 ? 8 : wire === 5 ? 4 : varint();
      fields.push({ field: tag >> 3, value: data.slice(at, at + length) });
      at += length;
    }
  }
  return fields;
}
