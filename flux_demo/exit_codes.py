"""What the programs exit with: the command line, the page and the service."""

DONE = 0
NOT_UNDERSTOOD = 2  # as argparse does
REFUSED = 3  # or failed, with the reason
INTERRUPTED = 130  # 128 plus SIGINT's number, as shells count
