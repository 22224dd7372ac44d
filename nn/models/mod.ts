/** @file Models. */

export { AlexNet, alexnet, type AlexNetOptions } from "./alexnet.ts";
