"""A package, unlike the other folders of tests: its stack and its browser live as long as the folder, and no longer."""
