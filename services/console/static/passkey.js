// Gives the form of a passkey page what the browser's authenticator answers, and posts it.
document.addEventListener("DOMContentLoaded", async () => {
  const form = document.querySelector("form[data-passkey]");
  if (!form) return;
  const answer = form.dataset.passkey === "register" ? handleRegister : handleSignin;
  const result = await answer(form.dataset.options);
  if (result.error_msg || !result.credential) {
    const error = form.querySelector("[role=alert]");
    error.textContent = `${result.error_msg || "The browser gave no passkey."} Go back and try again.`;
    error.hidden = false;
    return;
  }
  form.elements.credential.value = result.credential;
  HTMLFormElement.prototype.submit.call(form); // a field of the form is named "submit"
});
