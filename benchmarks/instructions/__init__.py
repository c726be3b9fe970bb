"""How many machine instructions a request costs, counted by callgrind: a figure without noise."""
