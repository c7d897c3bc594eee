"""Pages in the browser that one person opens on their own machine: answers to label, written answers to mark."""
