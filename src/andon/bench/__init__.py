"""The benchmark: grids of cells, how they are run, the statistics of repeated runs, tables beside published figures."""
