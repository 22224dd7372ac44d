/** @file Serving pages to browsers on this machine, and to no other. */

/** Options of {@linkcode serveLocally}. */
export interface LocalServerOptions {
  /** Port on 127.0.0.1; 0 takes a free one. */
  port: number;
  /** Answers requests; it gets the hosts that they may name. */
  handler: (hosts: readonly string[]) => (request: Request) => Response | Promise<Response>;
  /** Called with the address when it can be opened. */
  onListen?: ((url: string) => void) | undefined;
  /** Ends it. */
  signal?: AbortSignal | undefined;
}

/**
 * Serves until it is ended.
 *
 * @throws {Deno.errors.AddrInUse} If the port is in use.
 * @throws {Error} If it may not be taken.
 */
export async function serveLocally(options: LocalServerOptions): Promise<void> {
  let handle: ((request: Request) => Response | Promise<Response>) | undefined;
  await listen(options, (port) => {
    handle = options.handler(localHosts(port));
    options.onListen?.(`http://127.0.0.1:${port}/`);
  }, (request) => handle!(request)).finished;
}

/** What browsers call this machine's port: its number is left out of an address where it is that of http. */
export function localHosts(port: number): string[] {
  return ["127.0.0.1", "localhost"].map((name) => new URL(`http://${name}:${port}`).host);
}

function listen(
  { port, signal }: LocalServerOptions,
  onPort: (port: number) => void,
  handler: (request: Request) => Response | Promise<Response>,
): Deno.HttpServer {
  const onListen = (address: Deno.NetAddr) => onPort(address.port);
  try {
    return Deno.serve({ hostname: "127.0.0.1", port, signal, onListen }, handler);
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) throw error; // names the flag to pass
    const what = `Cannot serve on port ${port}`;
    if (error instanceof Deno.errors.AddrInUse) {
      const instead = "it is in use; give another port, 0 for any that is free";
      throw new Deno.errors.AddrInUse(`${what}: ${instead}`, { cause: error });
    }
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`${what}: ${reason}`, { cause: error });
  }
}
