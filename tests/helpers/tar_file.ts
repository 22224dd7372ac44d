/** Tar archives for tests of readers, right ones and wrong ones. */

const BLOCK = 512;

/** An entry of a tar archive; what is not given follows from `data`. */
export interface TestTarEntry {
  name: string;
  data?: Uint8Array;
  /** One letter. Default `0`, a file. */
  type?: string;
  /** Size to write, in place of that of the data. */
  size?: number;
  /** Writes the size as GNU does beyond 8 GiB. */
  wideSize?: boolean;
  /** Folder of the name, in ustar's own field. */
  prefix?: string;
  /** Added to the checksum. */
  lie?: number;
}

/** The bytes of an entry: header and data, filled up. */
export function tarEntry(entry: TestTarEntry): Uint8Array {
  const { name, data = new Uint8Array(), type = "0", prefix = "", lie = 0 } = entry;
  const { size = data.length, wideSize = false } = entry;
  const header = new Uint8Array(BLOCK);
  const put = (at: number, text: string) => header.set(new TextEncoder().encode(text), at);
  const octal = (value: number, digits: number) => value.toString(8).padStart(digits, "0");
  put(0, name);
  put(100, "0000644\0" + "0000000\0" + "0000000\0");
  put(124, octal(size, 11) + "\0");
  if (wideSize) {
    header.fill(0, 124, 136);
    header[124] = 0x80;
    new DataView(header.buffer).setUint32(132, size);
  }
  put(136, "00000000000\0");
  put(148, "        ");
  put(156, type);
  put(257, "ustar\x0000");
  put(345, prefix);
  const sum = header.reduce((total, byte) => total + byte, 0) + lie;
  put(148, octal(sum, 6) + "\0 ");
  const bytes = new Uint8Array(BLOCK + Math.ceil(data.length / BLOCK) * BLOCK);
  bytes.set(header);
  bytes.set(data, BLOCK);
  return bytes;
}

/** The bytes of an archive, ended by two empty blocks. */
export function tarFile(entries: readonly TestTarEntry[], empty = 2): Uint8Array<ArrayBuffer> {
  const parts = [...entries.map(tarEntry), new Uint8Array(empty * BLOCK)];
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** The data of a pax header. */
export function paxRecords(values: Record<string, string>): Uint8Array {
  const records = Object.entries(values).map(([key, value]) => {
    const body = ` ${key}=${value}\n`, length = new TextEncoder().encode(body).length;
    const digits = String(length + String(length + 2).length).length;
    return `${length + digits}${body}`;
  });
  return new TextEncoder().encode(records.join(""));
}
