import { testOnAdapter } from "../helpers/adapter_suite.ts";

// These cannot hide one another: each one only refuses.
testOnAdapter("64 workgroups a side, bindings of 1 MiB and 8 storage buffers", {
  limits: {
    maxComputeWorkgroupsPerDimension: 64,
    maxStorageBufferBindingSize: 1 << 20,
    maxStorageBuffersPerShaderStage: 8,
  },
});
