"""The course checks itself: skeletons fail, solutions pass, wrong answers are caught and named, right ones are never refused."""
