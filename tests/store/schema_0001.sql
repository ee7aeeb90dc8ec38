BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE comparisons (
	id TEXT NOT NULL, 
	project TEXT NOT NULL, 
	a TEXT NOT NULL, 
	b TEXT NOT NULL, 
	purpose TEXT NOT NULL, 
	campaign TEXT NOT NULL, 
	votes_wanted INTEGER NOT NULL, 
	prompt_key TEXT NOT NULL, 
	created_at TEXT NOT NULL, 
	CONSTRAINT comparisons_pk PRIMARY KEY (id), 
	CONSTRAINT comparisons_purpose CHECK (purpose IN ('train', 'judge')), 
	CONSTRAINT comparisons_two_answers CHECK (a <> b), 
	CONSTRAINT comparisons_a_fk FOREIGN KEY(a) REFERENCES exchanges (id), 
	CONSTRAINT comparisons_b_fk FOREIGN KEY(b) REFERENCES exchanges (id)
);
CREATE TABLE dataset_rows (
	dataset TEXT NOT NULL, 
	split TEXT NOT NULL, 
	position INTEGER NOT NULL, 
	project TEXT NOT NULL, 
	text_id TEXT NOT NULL, 
	number INTEGER NOT NULL, 
	digest TEXT NOT NULL, 
	CONSTRAINT dataset_rows_pk PRIMARY KEY (dataset, split, position), 
	CONSTRAINT dataset_rows_dataset_fk FOREIGN KEY(dataset) REFERENCES records (id), 
	CONSTRAINT dataset_rows_text_id_fk FOREIGN KEY(text_id) REFERENCES texts (id)
);
INSERT INTO "dataset_rows" VALUES('dataset-4ae083e5bef22699','train',0,'support','ad64a7b567dd1811a3c8b7ac824c3179',1,'27df5228f31201b0f2f9af346b0adba90a4433e6377836fff6935ecfa0a7ead6');
CREATE TABLE erased_blobs (
	digest TEXT NOT NULL, 
	erased_at TEXT NOT NULL, 
	CONSTRAINT erased_blobs_pk PRIMARY KEY (digest)
);
CREATE TABLE exchanges (
	id TEXT NOT NULL, 
	project TEXT NOT NULL, 
	version TEXT NOT NULL, 
	purpose TEXT NOT NULL, 
	text_id TEXT NOT NULL, 
	subject TEXT, 
	"case" TEXT, 
	delivery TEXT NOT NULL, 
	finish_reason TEXT NOT NULL, 
	settings TEXT NOT NULL, 
	latency_ms FLOAT, 
	prompt_tokens INTEGER NOT NULL, 
	answer_tokens INTEGER NOT NULL, 
	created_at TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	CONSTRAINT exchanges_pk PRIMARY KEY (id), 
	CONSTRAINT exchanges_text_id_fk FOREIGN KEY(text_id) REFERENCES texts (id), 
	CONSTRAINT exchanges_version_fk FOREIGN KEY(version) REFERENCES records (id)
);
INSERT INTO "exchanges" VALUES('e1','support','version-423f539865985973','chat','53874b58e05a95e1c7c104c69cf44331','anna',NULL,'released','stop','{}',NULL,3,2,'2026-11-23T09:14:00.775432+00:00','bddd47b0318e3668f696a6a704aebae2f208d1ccf439423839d7490f126e0d58');
CREATE TABLE leases (
	comparison_id TEXT NOT NULL, 
	rater_id TEXT NOT NULL, 
	project TEXT NOT NULL, 
	expires_at TEXT NOT NULL, 
	CONSTRAINT leases_pk PRIMARY KEY (comparison_id, rater_id), 
	CONSTRAINT leases_comparison_id_fk FOREIGN KEY(comparison_id) REFERENCES comparisons (id), 
	CONSTRAINT leases_rater_id_fk FOREIGN KEY(rater_id) REFERENCES raters (id)
);
CREATE TABLE lineage (
	child TEXT NOT NULL, 
	parent TEXT NOT NULL, 
	position INTEGER NOT NULL, 
	CONSTRAINT lineage_pk PRIMARY KEY (child, position), 
	CONSTRAINT lineage_child_fk FOREIGN KEY(child) REFERENCES records (id), 
	CONSTRAINT lineage_parent_fk FOREIGN KEY(parent) REFERENCES records (id)
);
INSERT INTO "lineage" VALUES('version-423f539865985973','dataset-4ae083e5bef22699',0);
CREATE TABLE promotions (
	sequence INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	project TEXT NOT NULL, 
	action TEXT NOT NULL, 
	version TEXT NOT NULL, 
	previous_version TEXT, 
	verdict TEXT, 
	by_whom TEXT NOT NULL, 
	created_at TEXT NOT NULL, 
	previous TEXT, 
	digest TEXT NOT NULL, 
	CONSTRAINT promotions_previous_version_fk FOREIGN KEY(previous_version) REFERENCES records (id), 
	CONSTRAINT promotions_verdict_fk FOREIGN KEY(verdict) REFERENCES records (id), 
	CONSTRAINT promotions_version_fk FOREIGN KEY(version) REFERENCES records (id)
);
INSERT INTO "promotions" VALUES(1,'support','promote','version-423f539865985973',NULL,NULL,'anna','2026-11-23T09:14:00.804838+00:00',NULL,'862b80ad980fb92ab634b55b87962b5d7a8f1a9ef2427468e48d43fcef9dff2f');
CREATE TABLE raters (
	id TEXT NOT NULL, 
	project TEXT NOT NULL, 
	name TEXT NOT NULL, 
	source TEXT NOT NULL, 
	created_at TEXT NOT NULL, 
	CONSTRAINT raters_pk PRIMARY KEY (id), 
	CONSTRAINT raters_source CHECK (source IN ('human', 'simulated')), 
	CONSTRAINT raters_name UNIQUE (project, name)
);
INSERT INTO "raters" VALUES('rater-ben','support','ben','human','2026-11-23T09:14:00.779275+00:00');
CREATE TABLE record_blobs (
	record TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	CONSTRAINT record_blobs_pk PRIMARY KEY (record, digest), 
	CONSTRAINT record_blobs_record_fk FOREIGN KEY(record) REFERENCES records (id)
);
CREATE TABLE records (
	sequence INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	id TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	stage TEXT NOT NULL, 
	stage_version INTEGER NOT NULL, 
	project TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	name TEXT, 
	seed INTEGER NOT NULL, 
	settings TEXT NOT NULL, 
	body TEXT NOT NULL, 
	libraries TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	created_at TEXT NOT NULL, 
	seal TEXT NOT NULL, 
	CONSTRAINT records_id UNIQUE (id), 
	CONSTRAINT records_key UNIQUE (project, "key"), 
	CONSTRAINT records_name UNIQUE (project, name)
);
INSERT INTO "records" VALUES(1,'dataset-4ae083e5bef22699','dataset','data',1,'support','4ae083e5bef226997c970c645c202d1a84fe8c312b463d77879de22c32fc208d',NULL,7,'{"learning_rate":0.001}','{"rows":1}','{"burnish":"0.1.0","numpy":"2.4.6","python":"3.11.7","safetensors":"0.8.0","tokenizers":"0.23.3","torch":"2.13.0+cpu","transformers":"5.23.0"}','2c520a65b52d88428f1c4ff99b833dc30dcb99fe2cbe634ce1a53ce9ee078efe','2026-11-23T09:14:00.723189+00:00','1d62a7dc19a5e40a14d52fb55fb3f006b7f258229b4efea44b92049d343731c1');
INSERT INTO "records" VALUES(2,'version-423f539865985973','version','sft',1,'support','423f539865985973a4114025d92906a11309ebc2932b5bcd1941cc4d7b4b38c9','support@0',7,'{"learning_rate":0.001}','{"stage":"sft"}','{"burnish":"0.1.0","numpy":"2.4.6","python":"3.11.7","safetensors":"0.8.0","tokenizers":"0.23.3","torch":"2.13.0+cpu","transformers":"5.23.0"}','4b77e12d4a8b33fea990d57347d72bc3ffdc78c6ea1131a0a1c2edfab3bdd6cf','2026-11-23T09:14:00.754891+00:00','b7d7bec207ca6eb2c828a85694daf1cb390775bb92e40489b473541b06626a4e');
CREATE TABLE texts (
	id TEXT NOT NULL, 
	project TEXT NOT NULL, 
	subject TEXT, 
	"case" TEXT, 
	salt TEXT, 
	digest TEXT NOT NULL, 
	payload TEXT, 
	created_at TEXT NOT NULL, 
	erased_at TEXT, 
	CONSTRAINT texts_pk PRIMARY KEY (id)
);
INSERT INTO "texts" VALUES('ad64a7b567dd1811a3c8b7ac824c3179','support','anna',NULL,'815b0bfe7b3aed60aa448ac252322568','610a3a2155c2dcb4fa87ccaad686eb8314b9b0e8b9f8ef809ac291d8825623d4','{"answer":"Open the settings.","documents":[],"prompt":[{"content":"hello","role":"user"}]}','2026-11-23T09:14:00.726953+00:00',NULL);
INSERT INTO "texts" VALUES('53874b58e05a95e1c7c104c69cf44331','support','anna',NULL,'e82f4c62be716bc432d4cd01433cb90a','63bf387f6d263e6537099cb62dae4973478a7e12efe1dd5dd3839e37a8297a21','{"answer":"On its way.","answer_ids":[4,5],"documents":[],"logprobs":[-0.5,-1.25],"prompt":[{"content":"You help with orders.","role":"system"},{"content":"Where is it?","role":"user"}],"prompt_ids":[1,2,3]}','2026-11-23T09:14:00.775878+00:00',NULL);
CREATE TABLE votes (
	sequence INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	project TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	comparison_id TEXT, 
	exchange TEXT NOT NULL, 
	other TEXT, 
	version TEXT NOT NULL, 
	other_version TEXT, 
	choice TEXT, 
	left_side TEXT, 
	value FLOAT, 
	text_id TEXT, 
	rater_id TEXT NOT NULL, 
	source TEXT NOT NULL, 
	undo_of INTEGER, 
	created_at TEXT NOT NULL, 
	previous TEXT, 
	digest TEXT NOT NULL, 
	CONSTRAINT votes_source CHECK (source IN ('human', 'simulated')), 
	CONSTRAINT votes_comparison_id_fk FOREIGN KEY(comparison_id) REFERENCES comparisons (id), 
	CONSTRAINT votes_exchange_fk FOREIGN KEY(exchange) REFERENCES exchanges (id), 
	CONSTRAINT votes_other_fk FOREIGN KEY(other) REFERENCES exchanges (id), 
	CONSTRAINT votes_other_version_fk FOREIGN KEY(other_version) REFERENCES records (id), 
	CONSTRAINT votes_rater_id_fk FOREIGN KEY(rater_id) REFERENCES raters (id), 
	CONSTRAINT votes_text_id_fk FOREIGN KEY(text_id) REFERENCES texts (id), 
	CONSTRAINT votes_undo_of_fk FOREIGN KEY(undo_of) REFERENCES votes (sequence), 
	CONSTRAINT votes_version_fk FOREIGN KEY(version) REFERENCES records (id), 
	CONSTRAINT votes_key UNIQUE (project, "key")
);
INSERT INTO "votes" VALUES(1,'support','k1','rating',NULL,'e1',NULL,'version-423f539865985973',NULL,NULL,NULL,4.0,NULL,'rater-ben','human',NULL,'2026-11-23T09:14:00.791596+00:00',NULL,'af6b0a9b7fb304758c61754a87086d035a3420b62cbf3612948644dc84d97732');
CREATE INDEX records_kind ON records (project, kind);
CREATE INDEX texts_subject ON texts (project, subject);
CREATE INDEX dataset_rows_text ON dataset_rows (text_id);
CREATE INDEX exchanges_recent ON exchanges (project, created_at);
CREATE INDEX exchanges_text ON exchanges (text_id);
CREATE INDEX lineage_parent ON lineage (parent);
CREATE INDEX promotions_project ON promotions (project);
CREATE INDEX comparisons_campaign ON comparisons (project, campaign);
CREATE INDEX votes_comparison ON votes (comparison_id);
CREATE INDEX votes_exchange ON votes (exchange);
CREATE TRIGGER records_no_update BEFORE UPDATE ON records BEGIN SELECT RAISE(ABORT, 'records is append-only'); END;
CREATE TRIGGER records_no_delete BEFORE DELETE ON records BEGIN SELECT RAISE(ABORT, 'records is append-only'); END;
CREATE TRIGGER lineage_no_update BEFORE UPDATE ON lineage BEGIN SELECT RAISE(ABORT, 'lineage is append-only'); END;
CREATE TRIGGER lineage_no_delete BEFORE DELETE ON lineage BEGIN SELECT RAISE(ABORT, 'lineage is append-only'); END;
CREATE TRIGGER votes_no_update BEFORE UPDATE ON votes BEGIN SELECT RAISE(ABORT, 'votes is append-only'); END;
CREATE TRIGGER votes_no_delete BEFORE DELETE ON votes BEGIN SELECT RAISE(ABORT, 'votes is append-only'); END;
CREATE TRIGGER promotions_no_update BEFORE UPDATE ON promotions BEGIN SELECT RAISE(ABORT, 'promotions is append-only'); END;
CREATE TRIGGER promotions_no_delete BEFORE DELETE ON promotions BEGIN SELECT RAISE(ABORT, 'promotions is append-only'); END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('records',2);
INSERT INTO "sqlite_sequence" VALUES('votes',1);
INSERT INTO "sqlite_sequence" VALUES('promotions',1);
COMMIT;
