"""The pages, and the app that alone mounts routers behind the guard."""
