"""``python -m zenith.info`` prints what the machine and this build have."""

from zenith._info import main

if __name__ == "__main__":
    main()
