import { testOnAdapter } from "../helpers/adapter_suite.ts";

testOnAdapter("no f16", { without: ["shader-f16"] });
