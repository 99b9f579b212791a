"""`python -m cli` in a checkout, `python -m critpoints_cli` where it is installed."""

from .main import main

raise SystemExit(main())
