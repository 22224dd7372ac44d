import { assertEquals } from "@std/assert";
import { init, nn, zeros } from "../../mod.ts";
import { EpochLR, type EpochPlan } from "../../experiments/_schedule.ts";

function make(plan: EpochPlan) {
  const optimizer = new nn.optim.SGD([zeros([1], { requiresGrad: true })], { lr: 0.5 });
  return { optimizer, scheduler: new EpochLR(optimizer, plan) };
}

/** The rate of each epoch up to `until`, from where the scheduler stands. */
function rates({ scheduler }: ReturnType<typeof make>, until: number): number[] {
  const found: number[] = [];
  while (scheduler.lastEpoch < until) {
    found.push(scheduler.getLastLr()[0]!);
    scheduler.step();
  }
  return found;
}

Deno.test("EpochLR gives the rates of the new number of epochs when a run goes on", async () => {
  await init();
  for (const plan of [{ lrSchedule: "cosine" }, { lrSchedule: "cosine", warmup: 3 }] as const) {
    const whole = rates(make({ ...plan, epochs: 9 }), 9);
    for (const stopped of [2, 5]) {
      const first = make({ ...plan, epochs: 5 });
      rates(first, stopped);
      const second = make({ ...plan, epochs: 9 });
      second.optimizer.loadStateDict(first.optimizer.stateDict());
      second.scheduler.loadStateDict(first.scheduler.stateDict());
      assertEquals(rates(second, 9), whole.slice(stopped));
    }
  }
});

Deno.test("EpochLR falls to 0 by a cosine, rises at first, or stays", async () => {
  await init();
  const rounded = (plan: EpochPlan, until: number) =>
    rates(make(plan), until).map((rate) => Number(rate.toFixed(12)));
  assertEquals(rounded({ lrSchedule: "cosine", epochs: 2 }, 3), [0.5, 0.25, 0]);
  assertEquals(rounded({ lrSchedule: "cosine", epochs: 3, warmup: 1 }, 4), [0.25, 0.5, 0.25, 0]);
  assertEquals(rounded({ lrSchedule: "constant", epochs: 2 }, 3), [0.5, 0.5, 0.5]);
});
