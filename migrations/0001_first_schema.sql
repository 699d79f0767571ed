-- What gmemd keeps. Every table is STRICT, and every value that is served or replayed is covered by a checksum, because
-- SQLite itself keeps none: the journal by its hash chain, page runs by the sum in their VM's row, all other rows by
-- their own checksum and by the sum over their table in table_sums.

PRAGMA application_id = 0x676d656d;

CREATE TABLE migrations (
  version INTEGER PRIMARY KEY,
  name    TEXT NOT NULL,
  sha256  BLOB NOT NULL
) STRICT;

-- 'last_seq' and 'last_hash' say where the journal ends; 'probe' is scratch space.
CREATE TABLE meta (
  key   TEXT NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO meta (key, value) VALUES
  ('last_seq', '0'),
  ('last_hash', '0000000000000000000000000000000000000000000000000000000000000000'),
  ('probe', '');

-- Number of rows and sum of their checksums, modulo 2^52.
CREATE TABLE table_sums (
  table_name TEXT NOT NULL PRIMARY KEY,
  row_count  INTEGER NOT NULL,
  checksum   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO table_sums (table_name, row_count, checksum) VALUES
  ('hosts', 0, 0), ('vms', 0, 0), ('memfiles', 0, 0), ('memslots', 0, 0), ('replies', 0, 0), ('checkpoints', 0, 0);

CREATE TABLE blobs (
  sha256 BLOB NOT NULL UNIQUE,
  bytes  BLOB NOT NULL
) STRICT;

CREATE TABLE journal (
  seq        INTEGER PRIMARY KEY,
  host       TEXT NOT NULL,
  vm         TEXT,
  type       TEXT NOT NULL,
  command    TEXT NOT NULL,
  outcome    TEXT NOT NULL,
  first_gfn  INTEGER,
  end_gfn    INTEGER,
  attachment BLOB REFERENCES blobs (sha256),
  hash       BLOB NOT NULL
) STRICT;

CREATE INDEX journal_by_vm ON journal (vm, seq, first_gfn, end_gfn) WHERE vm IS NOT NULL;
CREATE INDEX journal_by_attachment ON journal (attachment) WHERE attachment IS NOT NULL;

CREATE TABLE hosts (
  name         TEXT NOT NULL PRIMARY KEY,
  technology   TEXT NOT NULL,
  memory_bytes INTEGER NOT NULL,
  state        TEXT NOT NULL,
  revision     INTEGER NOT NULL,
  checksum     INTEGER NOT NULL
) STRICT;

CREATE TABLE vms (
  id            TEXT NOT NULL PRIMARY KEY,
  name          TEXT,
  host          TEXT NOT NULL,
  technology    TEXT NOT NULL,
  state         TEXT NOT NULL,
  privacy       TEXT NOT NULL,
  conversion    TEXT NOT NULL,
  vcpus         INTEGER NOT NULL,
  revision      INTEGER NOT NULL,
  runs          INTEGER NOT NULL,
  runs_checksum INTEGER NOT NULL,
  checksum      INTEGER NOT NULL
) STRICT;

CREATE TABLE memfiles (
  id              TEXT NOT NULL PRIMARY KEY,
  name            TEXT,
  host            TEXT NOT NULL,
  vm              TEXT,
  state           TEXT NOT NULL,
  pages           INTEGER NOT NULL,
  allocated_pages INTEGER NOT NULL,
  revision        INTEGER NOT NULL,
  checksum        INTEGER NOT NULL
) STRICT;

CREATE TABLE memslots (
  vm                 TEXT NOT NULL REFERENCES vms (id),
  slot               INTEGER NOT NULL,
  first_gfn          INTEGER NOT NULL,
  pages              INTEGER NOT NULL,
  memfile            TEXT,
  memfile_first_page INTEGER NOT NULL,
  shared_hva_frame   INTEGER,
  read_only          INTEGER NOT NULL,
  dirty_log          INTEGER NOT NULL,
  revision           INTEGER NOT NULL,
  checksum           INTEGER NOT NULL,
  PRIMARY KEY (vm, slot)
) STRICT;

-- What a run of pages can be. Covered by the checksums of the runs that name it.
CREATE TABLE page_states (
  id         INTEGER PRIMARY KEY,
  owner      TEXT NOT NULL,
  visibility TEXT NOT NULL,
  hardware   TEXT NOT NULL,
  UNIQUE (hardware, visibility, owner)
) STRICT;

-- Maximal runs of guest pages that agree. Covered by vms.runs and vms.runs_checksum.
CREATE TABLE page_runs (
  vm        TEXT NOT NULL,
  first_gfn INTEGER NOT NULL,
  pages     INTEGER NOT NULL,
  state     INTEGER NOT NULL,
  PRIMARY KEY (vm, first_gfn)
) STRICT, WITHOUT ROWID;

CREATE TABLE checkpoints (
  host            TEXT NOT NULL,
  seq             INTEGER NOT NULL,
  state_sha256    BLOB NOT NULL,
  contents_sha256 BLOB NOT NULL,
  checksum        INTEGER NOT NULL,
  state           BLOB NOT NULL,
  PRIMARY KEY (host, seq)
) STRICT;

-- Contents of host pages as of a checkpoint. Covered by checkpoints.contents_sha256.
CREATE TABLE page_contents (
  host  TEXT NOT NULL,
  seq   INTEGER NOT NULL,
  frame INTEGER NOT NULL,
  bytes BLOB NOT NULL,
  UNIQUE (host, seq, frame),
  FOREIGN KEY (host, seq) REFERENCES checkpoints (host, seq)
) STRICT;

CREATE TABLE replies (
  id          INTEGER PRIMARY KEY,
  key         TEXT NOT NULL UNIQUE,
  fingerprint TEXT NOT NULL,
  seq         INTEGER NOT NULL,
  status      INTEGER NOT NULL,
  headers     TEXT NOT NULL,
  body        TEXT NOT NULL,
  checksum    INTEGER NOT NULL
) STRICT;

-- For people: addresses in hexadecimal, sizes in bytes.
CREATE VIEW page_ownership AS
  SELECT page_runs.vm, vms.name AS vm_name, vms.host,
         printf('0x%x', first_gfn * 4096) AS first_gpa, printf('0x%x000', first_gfn + pages) AS end_gpa,
         pages, pages * 4096 AS bytes, owner, visibility, hardware
    FROM page_runs JOIN page_states ON page_states.id = page_runs.state JOIN vms ON vms.id = page_runs.vm;

CREATE VIEW memory_by_vm AS
  SELECT vm, owner, visibility, count(*) AS runs, sum(pages) AS pages, sum(pages) * 4096 AS bytes
    FROM page_runs JOIN page_states ON page_states.id = page_runs.state GROUP BY vm, owner, visibility;

CREATE VIEW journal_entries AS
  SELECT seq, host, vm, type, command, outcome,
         printf('0x%x', first_gfn * 4096) AS first_gpa, printf('0x%x', end_gfn * 4096) AS end_gpa,
         lower(hex(attachment)) AS attachment_sha256, lower(hex(hash)) AS hash
    FROM journal;
