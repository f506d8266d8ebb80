"""``netvirt``, the command line. It uses the library's public interface only."""
