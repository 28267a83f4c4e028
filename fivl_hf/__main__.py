"""``python -m fivl_hf`` is ``fivl``."""

import sys

from fivl_hf.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
