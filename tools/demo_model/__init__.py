"""Makes the demo model that ships with the package."""
