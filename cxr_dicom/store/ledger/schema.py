"""Tables of the ledger, as a list of migrations: append, never edit.

Times are seconds since 1970 in UTC. Paths are relative to the folder of the ledger.
"""

MIGRATIONS = (
    """
    CREATE TABLE studies (
        study_instance_uid TEXT PRIMARY KEY,
        state TEXT NOT NULL,
        reason TEXT NOT NULL DEFAULT '',           -- why it is IGNORED, HELD or DEAD
        dirty INTEGER NOT NULL DEFAULT 0,          -- images arrived while it was RUNNING
        forced INTEGER NOT NULL DEFAULT 0,         -- run although nothing changed
        claimed_by TEXT,                           -- worker, while RUNNING
        interruptions INTEGER NOT NULL DEFAULT 0,  -- claims that were neither finished nor released
        attempts INTEGER NOT NULL DEFAULT 0,       -- of processing, that failed
        next_attempt_at REAL,
        received_at REAL NOT NULL,
        changed_at REAL NOT NULL
    ) STRICT;
    CREATE INDEX studies_by_state ON studies (state, received_at);

    CREATE TABLE instances (
        sop_instance_uid TEXT PRIMARY KEY,
        study_instance_uid TEXT NOT NULL REFERENCES studies ON DELETE CASCADE,
        series_instance_uid TEXT NOT NULL,
        sop_class_uid TEXT NOT NULL,
        path TEXT,                                 -- NULL: the file was deleted by retention
        sha256 TEXT NOT NULL,
        sender TEXT,
        received_at REAL NOT NULL,
        outcome TEXT,                              -- NULL: not yet processed
        reason TEXT,
        detail TEXT NOT NULL DEFAULT ''
    ) STRICT;
    CREATE INDEX instances_by_study ON instances (study_instance_uid);

    CREATE TABLE jobs (
        id INTEGER PRIMARY KEY,
        study_instance_uid TEXT NOT NULL REFERENCES studies ON DELETE CASCADE,
        job_key TEXT NOT NULL,
        outcome TEXT NOT NULL,
        models TEXT NOT NULL,                      -- JSON: [{name, version, weights_sha256}]
        seconds TEXT NOT NULL,                     -- JSON: {stage: seconds}
        finished_at REAL NOT NULL
    ) STRICT;
    CREATE INDEX jobs_by_study ON jobs (study_instance_uid);

    CREATE TABLE objects (
        sop_instance_uid TEXT PRIMARY KEY,
        study_instance_uid TEXT NOT NULL REFERENCES studies ON DELETE CASCADE,
        series_instance_uid TEXT NOT NULL,
        sop_class_uid TEXT NOT NULL,
        job_id INTEGER NOT NULL REFERENCES jobs,   -- the latest job that made it
        kind TEXT NOT NULL,
        model TEXT,
        sources TEXT NOT NULL,                     -- JSON: SOP Instance UIDs
        path TEXT                                  -- NULL: the file was deleted by retention
    ) STRICT;
    CREATE INDEX objects_by_study ON objects (study_instance_uid);

    CREATE TABLE deliveries (
        sop_instance_uid TEXT NOT NULL REFERENCES objects ON DELETE CASCADE,
        destination TEXT NOT NULL,
        state TEXT NOT NULL,
        verify INTEGER NOT NULL,                   -- delivered is not enough: committed is asked
        status TEXT NOT NULL DEFAULT '',
        detail TEXT NOT NULL DEFAULT '',
        attempts INTEGER NOT NULL DEFAULT 0,       -- in this state
        first_attempt_at REAL,                     -- in this state
        next_attempt_at REAL,
        changed_at REAL NOT NULL,
        PRIMARY KEY (sop_instance_uid, destination)
    ) STRICT;
    CREATE INDEX deliveries_by_destination ON deliveries (destination, state);

    CREATE TABLE commitments (
        transaction_uid TEXT PRIMARY KEY,
        destination TEXT NOT NULL,
        requested_at REAL NOT NULL
    ) STRICT;

    CREATE TABLE watermarks (archive TEXT PRIMARY KEY, study_date TEXT NOT NULL) STRICT;
    CREATE TABLE polled (
        archive TEXT NOT NULL,
        study_instance_uid TEXT NOT NULL,
        instances INTEGER NOT NULL,                -- how many the archive said the study has
        polled_at REAL NOT NULL,
        PRIMARY KEY (archive, study_instance_uid)
    ) STRICT;

    CREATE TABLE counters (
        name TEXT NOT NULL,
        labels TEXT NOT NULL,                      -- JSON: {label: value}
        value REAL NOT NULL,
        PRIMARY KEY (name, labels)
    ) STRICT;
    """,
    """
    -- SOP Instance UID of the label map that a segmentation was made from, for destinations that refuse that class
    ALTER TABLE objects ADD COLUMN twin_of TEXT;
    """,
    """
    -- `jobs list` reads the latest changes only, however many studies there are
    CREATE INDEX studies_by_change ON studies (changed_at);
    CREATE INDEX studies_by_state_and_change ON studies (state, changed_at);
    """,
    """
    -- what is due is read at each poll, however much waits for a destination that is down or was taken long ago
    DROP INDEX deliveries_by_destination;
    CREATE INDEX deliveries_to_send ON deliveries (destination, next_attempt_at, changed_at) WHERE state = 'waiting';
    CREATE INDEX deliveries_to_verify ON deliveries (destination, next_attempt_at, changed_at)
        WHERE state = 'delivered' AND verify;
    """,
    """
    -- what `monitor` compares; a row goes with its image
    CREATE TABLE observations (
        sop_instance_uid TEXT PRIMARY KEY REFERENCES instances ON DELETE CASCADE,
        study_instance_uid TEXT NOT NULL,
        observed_at REAL NOT NULL,
        station TEXT NOT NULL,
        device TEXT NOT NULL,
        view TEXT NOT NULL,
        scores TEXT NOT NULL,                      -- JSON: {finding: [network's output, call]}
        measurements TEXT NOT NULL,                -- JSON: {measurement: value}
        warnings INTEGER NOT NULL,
        plausible INTEGER,                         -- NULL: no anatomy was looked for
        models TEXT NOT NULL                       -- JSON: [[name, version, SHA-256 of the weights]]
    ) STRICT;
    CREATE INDEX observations_by_time ON observations (observed_at);
    """,
    """
    -- files that are nobody's by a decision of ours, until they are deleted; no other file is ever deleted
    CREATE TABLE discarded (path TEXT PRIMARY KEY) STRICT;
    """,
    """
    -- destinations that a person wants to be tried now, although they did not answer
    CREATE TABLE asked (destination TEXT PRIMARY KEY, asked_at REAL NOT NULL) STRICT;
    """,
    """
    -- destinations and archives that do not answer; a row is deleted when the place answers
    CREATE TABLE outages (
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        since REAL NOT NULL,
        cause TEXT NOT NULL,
        PRIMARY KEY (kind, name)
    ) STRICT;
    """,
    """
    -- images that an archive gave and we do not want, and studies that it could not give
    CREATE TABLE unwanted (
        archive TEXT NOT NULL,
        sop_instance_uid TEXT NOT NULL,
        study_instance_uid TEXT NOT NULL,
        PRIMARY KEY (archive, sop_instance_uid)
    ) STRICT;
    CREATE TABLE put_off (
        archive TEXT NOT NULL,
        study_instance_uid TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        next_attempt_at REAL NOT NULL,
        reason TEXT NOT NULL,
        PRIMARY KEY (archive, study_instance_uid)
    ) STRICT;
    """,
    """
    -- what the pages for a browser ask for at each look, however many studies there are
    CREATE TABLE state_counts (state TEXT PRIMARY KEY, studies INTEGER NOT NULL) STRICT;
    INSERT INTO state_counts SELECT state, count(*) FROM studies GROUP BY state;
    CREATE TRIGGER study_comes AFTER INSERT ON studies BEGIN
        INSERT INTO state_counts VALUES (NEW.state, 1) ON CONFLICT DO UPDATE SET studies = studies + 1; END;
    CREATE TRIGGER study_goes AFTER DELETE ON studies BEGIN
        UPDATE state_counts SET studies = studies - 1 WHERE state = OLD.state; END;
    CREATE TRIGGER study_moves AFTER UPDATE OF state ON studies WHEN OLD.state <> NEW.state BEGIN
        UPDATE state_counts SET studies = studies - 1 WHERE state = OLD.state; INSERT INTO state_counts
        VALUES (NEW.state, 1) ON CONFLICT DO UPDATE SET studies = studies + 1; END;
    CREATE INDEX deliveries_refused ON deliveries (destination) WHERE state = 'refused';
    CREATE INDEX jobs_by_time ON jobs (finished_at);
    CREATE INDEX observations_by_study ON observations (study_instance_uid);
    -- destinations to which a person wants nothing to be sent for now
    CREATE TABLE paused (destination TEXT PRIMARY KEY, since REAL NOT NULL) STRICT;
    -- a file with the rows and pictures of a study; it lies among its objects, and goes with them
    CREATE TABLE shown (
        study_instance_uid TEXT PRIMARY KEY REFERENCES studies ON DELETE CASCADE,
        path TEXT NOT NULL
    ) STRICT;
    """,
    """
    -- studies of emergencies, and the way of their objects, go before all others
    ALTER TABLE studies ADD COLUMN urgent INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE deliveries ADD COLUMN urgent INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX studies_to_claim ON studies (state, urgent DESC, received_at);
    DROP INDEX deliveries_to_send;
    DROP INDEX deliveries_to_verify;
    CREATE INDEX deliveries_to_send ON deliveries (destination, urgent, next_attempt_at, changed_at)
        WHERE state = 'waiting';
    CREATE INDEX deliveries_to_verify ON deliveries (destination, urgent, next_attempt_at, changed_at)
        WHERE state = 'delivered' AND verify;
    """,
    """
    -- JSON: names of the models that a person asked for; NULL: those of the settings
    ALTER TABLE studies ADD COLUMN models TEXT;
    """,
    """
    -- by which name the sender of an image called us, and the route that the image took when its study was processed
    ALTER TABLE instances ADD COLUMN called_ae_title TEXT;
    ALTER TABLE instances ADD COLUMN route TEXT;
    """,
    """
    -- results by the quarter of an hour in which they were finished: all time zones begin their hours with one
    CREATE TABLE results_by_time (quarter INTEGER PRIMARY KEY, results INTEGER NOT NULL) STRICT;
    INSERT INTO results_by_time SELECT CAST(finished_at / 900 AS INTEGER) quarter, count(*) FROM jobs GROUP BY quarter;
    CREATE TRIGGER result_comes AFTER INSERT ON jobs BEGIN
        INSERT INTO results_by_time VALUES (CAST(NEW.finished_at / 900 AS INTEGER), 1)
        ON CONFLICT DO UPDATE SET results = results + 1; END;
    CREATE TRIGGER result_goes AFTER DELETE ON jobs BEGIN
        UPDATE results_by_time SET results = results - 1 WHERE quarter = CAST(OLD.finished_at / 900 AS INTEGER); END;
    """,
)
