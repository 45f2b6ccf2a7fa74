"""Send: mail leaves through a transport, and a failure says what happens next."""
