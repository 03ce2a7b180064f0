"""What is shipped below deploy/ against its own linters and schemas, and against what it promises."""
