"""AdA: inputs made worse by moving the weights of networks that corrupt them."""
