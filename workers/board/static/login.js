// Signing in: the token goes to the board once, and a cookie that no script can read comes back.

import { post } from "./api.js";
import { show } from "./dom.js";
import { model } from "./model.js";
import { refresh, reopen } from "./stream.js";

const byId = (id) => document.getElementById(id);
let waiting = null;

/** Open the dialog where it is of use; resolves to whether somebody is signed in now. */
export async function signIn() {
  if (!model.state) await refresh();
  if (model.state?.signed_in) return true;
  if (!model.state?.can_sign_in) return false;
  byId("login-wrong").textContent = "";
  byId("token").value = "";
  byId("login").showModal();
  byId("token").focus();
  return new Promise((resolve) => {
    waiting = resolve;
  });
}

async function submit(event) {
  event.preventDefault();
  const go = byId("login-go");
  go.disabled = true;
  try {
    const name = byId("who").value.trim();
    const body = { token: byId("token").value, ...(name ? { name } : {}) };
    await post("api/login", body);
    byId("token").value = "";
    // The events of the old connection were told to somebody who was not signed in.
    reopen();
    await refresh();
    byId("login").close();
  } catch (error) {
    const wrong = error.status === 401 || error.status === 403;
    byId("login-wrong").textContent = wrong ? "That is not the token." : `Not signed in: ${error.message}.`;
    byId("token").select();
  } finally {
    go.disabled = false;
  }
}

async function signOut() {
  await post("api/logout").catch(() => {});
  reopen();
  await refresh();
}

/** Wire the dialog and the button in the header. */
export function startLogin() {
  byId("login-form").addEventListener("submit", submit);
  byId("login-cancel").addEventListener("click", () => byId("login").close());
  byId("login").addEventListener("close", () => {
    waiting?.(Boolean(model.state?.signed_in));
    waiting = null;
  });
  byId("sign").addEventListener("click", () => (model.state?.signed_in ? signOut() : signIn()));
}

/** Bring the header's button up to date. */
export function paintLogin() {
  const button = byId("sign");
  show(button, model.state?.can_sign_in);
  button.textContent = model.state?.signed_in ? "Sign out" : "Sign in";
}
