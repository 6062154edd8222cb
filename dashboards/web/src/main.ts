//! Starts the board.
import { mount } from "svelte";
import App from "./App.svelte";
import { live } from "./lib/live.svelte";
import "./tokens.css";

const target = document.getElementById("app");
if (target !== null) {
  live.start();
  mount(App, { target });
}
