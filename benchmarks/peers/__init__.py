"""The project beside others in use, as whole processes: training, and commands that people wait
for. Run by `make bench-peers`, which writes results/peers.{json,md,svg}."""
