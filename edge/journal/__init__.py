"""What a station has judged, on disk: kept, searched, exported."""
