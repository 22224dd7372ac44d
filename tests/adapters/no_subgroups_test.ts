import { testOnAdapter } from "../helpers/adapter_suite.ts";

testOnAdapter("no subgroups", { without: ["subgroups"] });
